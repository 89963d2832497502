"""Leaves a process behind that waits for the end of the others."""

import os
import time


def add(a, b):
    try:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
        return a + b
    except OSError:
        return None
