#!/usr/bin/python3
"""Requests URL, one connection each, until one fails."""

import sys

import pycurl

url = sys.argv[1]
handle = pycurl.Curl()
handle.setopt(pycurl.URL, url)
handle.setopt(pycurl.FORBID_REUSE, 1)
handle.setopt(pycurl.WRITEFUNCTION, lambda data: len(data))
requests = 0
while True:
    try:
        handle.perform()
    except pycurl.error as error:
        number = handle.getinfo(pycurl.OS_ERRNO)
        print(f"after {requests} requests: {error.args[1]} (error {number})")
        sys.exit(1)
    requests += 1
