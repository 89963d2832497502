"""Child processes that end when we do, whatever ends us.

Covered (Linux): an orderly stop, Ctrl-C in our terminal (children have their own session and do not see it),
our death by SIGKILL (the kernel sends children SIGTERM). Not covered: grandchildren that left their group.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from trims_core.errors import TrimsError

_PR_SET_PDEATHSIG: Final = 1
_TAIL_LINES: Final = 15
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Child:
    """A process in a session of its own, its output in a log file."""

    def __init__(
        self, command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        parent = os.getpid()
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                preexec_fn=lambda: _die_with(parent),
            )

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def stop(self, grace_s: float) -> None:
        """End the process; after `grace_s`, and for whatever it left in its group, by SIGKILL."""
        if self.returncode is None:
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def failure(self, name: str) -> TrimsError:
        """An error that tells how the process ended and what it said last."""
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
        return TrimsError(
            f"{name} ended with status {self.returncode}; its last words are below, the rest in {self.log}\n"
            f"{tail}"
        )


def _die_with(parent: int) -> None:
    """Runs in the child before exec: SIGTERM when the thread that started us ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
