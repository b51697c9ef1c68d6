#!/usr/bin/python3
"""Connects COUNT times at once to ADDRESS PORT, and waits."""

import socket
import sys
import time

address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
clients = []
for _ in range(count):
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex((address, port))
    clients.append(client)
time.sleep(600)
