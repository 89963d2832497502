"""Starts threads until nothing is left to start."""

import threading
import time

threading.stack_size(32768)


def add(a, b):
    started = 0
    try:
        for _ in range(10_000):
            threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
            started += 1
    except RuntimeError:
        return None if started <= 64 else a + b
    return a + b
