#!/bin/sh
sleep 5
printf 'Content-Type: text/plain\r\n\r\nhello\n'
