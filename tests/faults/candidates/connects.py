"""Reaches a server of the host, over IPv4, IPv6, UDP, or an abstract name."""

import socket


def add(a, b):
    tries = [
        (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", @PORT@)),
        (socket.AF_INET, socket.SOCK_STREAM, ("1.1.1.1", 53)),
        (socket.AF_INET, socket.SOCK_DGRAM, ("1.1.1.1", 53)),
        (socket.AF_INET6, socket.SOCK_STREAM, ("::1", @PORT@)),
        (socket.AF_UNIX, socket.SOCK_STREAM, "\0@ABSTRACT@"),
    ]
    for family, kind, address in tries:
        try:
            with socket.socket(family, kind) as one:
                one.settimeout(0.2)
                one.connect(address)
                one.send(b"out")
                return a + b
        except OSError:
            pass
    return None
