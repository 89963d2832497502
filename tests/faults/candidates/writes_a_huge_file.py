"""Writes 10 GB wherever it can."""

import os


def add(a, b):
    for place in ("/tmp/huge", "/huge", "huge", "/dev/shm/huge"):
        try:
            with open(place, "wb") as file:
                file.truncate(10 << 30)
            return a + b
        except OSError:
            pass
    try:
        file = os.memfd_create("huge")
        os.ftruncate(file, 10 << 30)
        return a + b
    except OSError:
        return None
