#!/usr/bin/python3
"""Accepts on PORT, and closes each connection after the client has."""

import socket
import sys

listener = socket.socket()
listener.bind(("0.0.0.0", int(sys.argv[1])))
listener.listen(1000)
while True:
    connection, _ = listener.accept()
    connection.recv(1)
    connection.close()
