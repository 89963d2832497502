"""Asks whether it may signal the host's process, its own group, or anybody (signal 0 harms nobody)."""

import os


def add(a, b):
    for pid in (@PID@, 1, 0, -1, os.getppid(), os.getpid()):
        try:
            os.kill(pid, 0)
            return a + b
        except OSError:
            pass
    return None
