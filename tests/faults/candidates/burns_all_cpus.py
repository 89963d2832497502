"""Takes CPU seconds by several threads that ignore the signal."""

import signal
import threading
import zlib

signal.signal(signal.SIGXCPU, signal.SIG_IGN)
DATA = bytes(1 << 24)


def burn():
    while True:
        zlib.crc32(DATA)


def add(a, b):
    for _ in range(8):
        threading.Thread(target=burn).start()
    burn()
