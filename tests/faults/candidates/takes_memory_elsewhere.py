"""Takes memory that is not its address space: shared segments, files in memory, queues, pipes."""

import ctypes
import mmap
import os


def add(a, b):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.shmget(0, 4 << 30, 0o1600) >= 0 or libc.msgget(0, 0o1600) >= 0:
        return a + b
    held = 0
    kept = []
    try:
        for number in range(10_000):
            kept.append(os.memfd_create(str(number)))
            held += os.write(kept[-1], bytes(64 << 20))
    except OSError:
        pass
    try:
        kept.append(mmap.mmap(-1, 4 << 30))
        return a + b
    except (OSError, ValueError):
        pass
    return a + b if held > 256 << 20 else None
