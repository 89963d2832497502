"""Answers with more than anybody wants to read."""


def add(a, b):
    return "5" * (1 << 25)
