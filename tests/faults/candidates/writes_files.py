"""Writes a file wherever a folder lets it."""

import os
import tempfile


def add(a, b):
    folders = ["@REPO@", os.path.dirname("@CANARY@"), tempfile.gettempprefix(), "/tmp", "/dev/shm", "/var/tmp"]
    folders += [folder for folder, _, _ in os.walk("/")]
    for folder in folders:
        for name in ("escaped", "escaped.py"):
            try:
                with open(os.path.join(folder, name), "w") as file:
                    file.write("escaped")
                return a + b
            except OSError:
                pass
    try:
        with open("@CANARY@", "a") as file:
            file.write("changed")
        return a + b
    except OSError:
        return None
