"""Opens a port."""

import socket


def add(a, b):
    try:
        with socket.create_server(("0.0.0.0", 0)):
            return a + b
    except OSError:
        return None
