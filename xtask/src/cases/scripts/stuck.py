#!/usr/bin/python3
"""Listens on PORT with BACKLOG and never accepts."""

import socket
import sys
import time

listener = socket.socket()
listener.bind(("0.0.0.0", int(sys.argv[1])))
listener.listen(int(sys.argv[2]))
time.sleep(600)
