#!/usr/bin/python3
"""Makes two TUN devices and carries packets between them, each 50 ms late."""

import collections
import fcntl
import os
import select
import struct
import sys
import time

DELAY = 0.05
TUNSETIFF = 0x400454CA
TUN_WITHOUT_HEADER = 0x1001


def device(name):
    wire = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(wire, TUNSETIFF, struct.pack("16sH22x", name.encode(), TUN_WITHOUT_HEADER))
    return wire


near, far = device(sys.argv[1]), device(sys.argv[2])
other = {near: far, far: near}
under_way = collections.deque()
while True:
    wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
    for end in select.select([near, far], [], [], wait)[0]:
        under_way.append((time.monotonic() + DELAY, other[end], os.read(end, 65536)))
    while under_way and under_way[0][0] <= time.monotonic():
        _, end, packet = under_way.popleft()
        try:
            os.write(end, packet)
        except OSError:
            pass  # The device is down, as a cable can be out.
