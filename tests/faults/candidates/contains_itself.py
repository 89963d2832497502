"""An answer without an end."""


def add(a, b):
    found = []
    found.append(found)
    return found
