"""A child process, and whatever it starts, that cannot outlive its parent, whatever kills the parent.

Two ties: Linux ends the child with SIGKILL when the thread that started it ends (PR_SET_PDEATHSIG), and a
watcher, forked from the child before it loads anything, ends the child's whole process group when a pipe
that only the parent holds open closes.
Covered: kill -9 of the parent at any moment, grandchildren included. Not covered: grandchildren that leave
the process group.
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def tie_to_parent(lifeline: int, parent_pid: int) -> None:
    """Called first thing in the child, which must lead its own process group and have one thread.

    Args:
        lifeline: reading end of a pipe whose writing end only the parent holds; closed here.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.fork() == 0:
        _watch(lifeline)
    os.close(lifeline)
    if os.getppid() != parent_pid:  # it died before the tie
        os._exit(1)


def _watch(lifeline: int) -> None:
    """The watcher's life: everything else closed, so that no other pipe or socket is held open by it."""
    os.closerange(0, lifeline)
    os.closerange(lifeline + 1, os.sysconf("SC_OPEN_MAX"))
    while os.read(lifeline, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)
