"""Destroys its own interpreter."""

import ctypes


def add(a, b):
    ctypes.memset(id(None), 0, 64)
    ctypes.string_at(0)
