#!/usr/bin/python3
"""Binds COUNT sockets, each to a port that the kernel chooses, and waits."""

import resource
import socket
import sys
import time

count = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
sockets = []
for _ in range(count):
    hoarded = socket.socket()
    hoarded.bind(("0.0.0.0", 0))
    sockets.append(hoarded)
print(f"holds {count} ports", flush=True)
time.sleep(600)
