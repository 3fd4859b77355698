"""Listens and never answers: mute.py PORT."""

import socket
import sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
held = []
while True:
    held.append(listener.accept()[0])
