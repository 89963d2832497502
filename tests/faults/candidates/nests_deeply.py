"""An answer whose reading would need a deep stack."""


def add(a, b):
    found = 5
    for _ in range(100_000):
        found = [found]
    return found
