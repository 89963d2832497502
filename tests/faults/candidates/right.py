"""The only one that passes."""


def add(a, b):
    return a + b
