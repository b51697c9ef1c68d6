#!/usr/bin/python3
"""Connects to ADDRESS PORT again and again, a new connection each time."""

import socket
import sys
import time

address = (sys.argv[1], int(sys.argv[2]))
while True:
    client = socket.socket()
    try:
        client.connect(address)
    except OSError:
        time.sleep(0.2)
    client.close()
