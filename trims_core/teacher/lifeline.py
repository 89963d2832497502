"""A child process that cannot outlive its parent, whatever kills the parent.

Two ties: Linux ends the child with SIGKILL when the thread that started it ends (PR_SET_PDEATHSIG), and a
pipe held open by the parent tells the child's whole process group to end when it closes.
Covered: kill -9 of the parent at any moment. Not covered: grandchildren of a child that was itself killed
with -9 before it could end its group (vLLM's own workers watch their parent).
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def tie_to_parent(lifeline: int, parent_pid: int) -> None:
    """Called first thing in the child, which must lead its own process group.

    Args:
        lifeline: reading end of a pipe whose writing end only the parent holds.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:  # it died before the tie
        os._exit(1)
    threading.Thread(target=_end_with, args=(lifeline,), name="lifeline", daemon=True).start()


def _end_with(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)
