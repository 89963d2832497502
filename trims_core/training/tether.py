"""A process that dies with the one that started it, however that one ends.

`python -m trims_core.training.tether MODULE ARGS…` ties itself to its parent and then becomes the module;
it is how launchers of other projects are kept from surviving us. Covered: kill -9 of the parent (Linux: the
kernel signals children whose parent thread ends). Not covered: other systems, where only exits that run
our clean-up end the children.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
from typing import Final

PARENT_VARIABLE: Final = "TRIMS_TETHER"
"""Process id of the parent at the start, as text."""
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL at the parent's death; ends at once if the parent is gone already.

    Does nothing where the variable TRIMS_TETHER is not set: the process was started by hand. The variable
    is removed, because it names the parent of this process only.
    """
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if parent is None or not sys.platform.startswith("linux"):
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
