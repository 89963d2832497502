"""A command that cannot outlive whoever starts it (see `trims_core.processes.Child`, which does).

    python -I -S tether.py PARENT SIGNAL LIFELINE GRACE_S COMMAND…

Two ties, then the process becomes the command. The kernel sends SIGNAL when the thread that started us ends
(Linux: PR_SET_PDEATHSIG, kept over exec); a watcher, forked before, signals the whole process group when the
pipe LIFELINE, whose other end only the parent holds, closes, and kills it GRACE_S later; it also kills what
the command leaves in the group at its own end. Covered: kill -9 of the parent at any moment, grandchildren
included. Not covered: grandchildren that leave the group.
Imports nothing of the project: it starts in some 20 ms.
"""

import ctypes
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.5


def main(parent: int, number: int, lifeline: int, grace_s: float, command: list[str]) -> None:
    """Tie this process, which leads its group, to its parent and become the command."""
    tie_to(parent, number)
    leader = os.getpid()  # known before the fork: a command may end before the watcher first runs
    if os.fork() == 0:
        _watch(leader, lifeline, number, grace_s)
    os.close(lifeline)
    os.execvp(command[0], command)


def tie_to(parent: int, number: int) -> None:
    """Let the kernel send `number` to this process when its parent ends; end it if that has happened."""
    if sys.platform.startswith("linux") and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before the tie
        os._exit(1)


def _watch(leader: int, lifeline: int, number: int, grace_s: float) -> None:
    """The watcher's life. Everything else is closed, so that no other pipe or socket is held open by it."""
    os.closerange(0, lifeline)
    os.closerange(lifeline + 1, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while os.getppid() == leader and not select.select([lifeline], [], [], _POLL_S)[0]:
        pass  # nobody writes: readable means closed
    if number != signal.SIGKILL and os.getppid() == leader:
        os.killpg(0, number)
        deadline = time.monotonic() + grace_s
        while os.getppid() == leader and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:])
