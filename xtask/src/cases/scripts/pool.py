#!/usr/bin/python3
"""Requests URL with a new handle each time and forgets none of them: every
connection stays open. When one request fails it says so, and waits."""

import sys
import time

import pycurl

url = sys.argv[1]
handles = []
while True:
    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, url)
    handle.setopt(pycurl.WRITEFUNCTION, lambda data: len(data))
    try:
        handle.perform()
    except pycurl.error as error:
        number = handle.getinfo(pycurl.OS_ERRNO)
        print(f"after {len(handles)} requests: {error.args[1]} (error {number})", flush=True)
        break
    handles.append(handle)
time.sleep(600)
