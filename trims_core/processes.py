"""Child processes that end when we do, whatever ends us. The only place that starts long-lived ones.

Covered (Linux): an orderly stop, Ctrl-C in our terminal (children have their own session and do not see it),
our death by SIGKILL at any moment, grandchildren included. Not covered: grandchildren that leave their group;
other systems, where only exits that run our clean-up end the children.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_TETHER: Final = Path(__file__).with_name("tether.py")
_TAIL_LINES: Final = 20
_POLL_S: Final = 0.05


class Child:
    """A process in a session of its own, its output at the end of a log file."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        cwd: Path | None = None,
        *,
        grace_s: float = 0.0,
        pass_fds: Collection[int] = (),
    ) -> None:
        """Start it.

        Args:
            grace_s: how long it may take to save and end if this process dies; 0: it is killed at once.
            pass_fds: descriptors that it inherits.
        """
        self.log = log
        number = signal.SIGTERM if grace_s else signal.SIGKILL
        log.parent.mkdir(parents=True, exist_ok=True)
        theirs, self._lifeline = os.pipe()
        tether = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), str(int(number)), str(theirs)]
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [*tether, str(grace_s), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**env, "PYTHONIOENCODING": "utf-8"},  # of its log, whatever a terminal has
                    cwd=cwd,
                    start_new_session=True,
                    pass_fds=(theirs, *pass_fds),
                )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(theirs)

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._process.terminate()

    def wait(self, seconds: float) -> int | None:
        """Its exit code, or None if it still runs after so long."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End it and whatever is in its group at once, and reap it."""
        with suppress(ProcessLookupError):  # all of it has ended
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def stop(self, grace_s: float) -> None:
        """Ask it to end; after `grace_s`, and whatever it left in its group, kill it."""
        stop_all([self], grace_s)

    def ending(self) -> str:
        """How it ended."""
        code = self.returncode
        if code is None:
            return "still runs"
        if code >= 0:
            return f"ended with exit code {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{hint}"

    def last_words(self) -> str:
        """The end of its log, under a line that says where the rest is."""
        lines = (
            self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        )
        return f"End of {self.log}:\n" + "\n".join(lines[-_TAIL_LINES:])


def importing_us(env: Mapping[str, str]) -> dict[str, str]:
    """An environment in which a Python child finds this project first, installed or not."""
    root = str(Path(__file__).resolve().parents[1])
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, [root, env.get("PYTHONPATH", "")]))}


def environment_of_nodes() -> dict[str, str]:
    """In which nodes and training ranks run; an OMP_WAIT_POLICY that is set already is respected.

    Waiting threads sleep instead of spinning: beside one other busy process a training step took 6 s instead
    of 0.3 s with spinning ones.
    """
    return {"OMP_WAIT_POLICY": "PASSIVE", **importing_us(os.environ), "PYTHONUNBUFFERED": "1"}


def stop_all(children: Sequence[Child], grace_s: float, ask: Sequence[Child] | None = None) -> None:
    """Ask children to end, wait that long at most, then kill what is left of them and of their groups.

    Args:
        ask: of the children, those that get a SIGTERM; default: all. None gets one where there is no grace.
    """
    try:
        for child in children if ask is None else ask:
            if grace_s and child.returncode is None:
                child.terminate()
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and any(child.returncode is None for child in children):
            time.sleep(_POLL_S)
    finally:
        for child in children:
            child.kill()
