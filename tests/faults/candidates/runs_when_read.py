"""An answer that would run code where a careless reader unpacks it."""

import os


class Runs:
    def __reduce__(self):
        return (os._exit, (0,))

    def __repr__(self):
        return "5"

    __str__ = __repr__


def add(a, b):
    return Runs()
