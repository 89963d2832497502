"""Runs other programs."""

import os
import subprocess
import sys


def add(a, b):
    for command in (["/bin/sh", "-c", "true"], [sys.executable, "-c", "pass"]):
        try:
            subprocess.run(command, check=True)
            return a + b
        except (OSError, subprocess.SubprocessError):
            pass
    try:
        os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], {})
        return a + b
    except OSError:
        pass
    try:
        os.execv(sys.executable, [sys.executable, "-c", "raise SystemExit(0)"])
    except OSError:
        return None
