"""Takes 4 GB, in one piece and in many."""


def add(a, b):
    try:
        whole = bytearray(4 << 30)
        return a + b if whole else None
    except MemoryError:
        pass
    parts = []
    try:
        while len(parts) < 400:
            parts.append(b"x" * (10 << 20))
    except MemoryError:
        return None
    return a + b
