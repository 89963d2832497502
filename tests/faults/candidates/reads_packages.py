"""Imports what is installed for the project."""


def add(a, b):
    for name in ("numpy", "torch", "trims_core", "pip", "setuptools"):
        try:
            __import__(name)
            return a + b
        except ImportError:
            pass
    return None
