"""Processes that answer requests one at a time, each request under hard limits.

A request that goes beyond a limit costs its process and nothing else: others keep their answers, and the next
request finds a fresh process. Processes stay between calls, until nobody asks for a while or we end.

Covered: endless C code, hung and killed processes, our own death at any moment. Not covered: requests whose
answers depend on what a process was asked before.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from threading import Lock
from typing import Any, Final

from trims_core.errors import ConfigError
from trims_core.processes import Child

_START_S: Final = 120.0
_ENV: Final = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
"""Of results that hang on the order of sets, the same ones everywhere."""


@dataclass(frozen=True)
class Limits:
    """Of one request."""

    cpu_s: float = 10.0
    """What decides: CPU time is the same on a busy machine."""
    wall_s: float = 60.0
    """For what waits instead of computing."""
    memory_mib: int = 1024
    """Of a whole process."""
    idle_s: float = 60.0
    """Without any request, after which a process ends."""


@dataclass(frozen=True)
class Reply:
    """The answer to a request, or why there is none."""

    values: dict[str, Any]
    problem: str | None = None
    timed_out: bool = False


class WorkerPool:
    """Processes of one script; safe to call from several threads, one after the other."""

    def __init__(self, script: Path, size: int, limits: Limits = Limits()) -> None:
        self._script, self._size, self.limits = script, size, limits
        self._workers: list[_Worker] = []
        self._lock = Lock()

    def ask(self, requests: Sequence[object]) -> list[Reply]:
        """The replies, in the order of the requests.

        Raises:
            ConfigError: a process cannot be started; ends with what it said.
        """
        with self._lock:
            try:
                return self._asked(requests)
            except BaseException:  # an interruption: their answers would be taken for later ones
                self._close()
                raise

    def close(self) -> None:
        """End the processes; the next request starts new ones."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        while self._workers:
            self._workers.pop().kill()

    def _asked(self, requests: Sequence[object]) -> list[Reply]:
        waiting, replies = deque(range(len(requests))), dict[int, Reply]()
        while len(replies) < len(requests):
            self._fill(len(waiting))
            for worker in self._workers:
                if worker.is_free and waiting:
                    worker.take(waiting[0], requests[waiting[0]])
                    waiting.popleft()
            due = min(worker.deadline for worker in self._workers)
            wait([worker.line for worker in self._workers], max(0.0, due - time.monotonic()))
            for worker in list(self._workers):
                for number, reply in worker.heard(self.limits):
                    if reply is None:
                        waiting.appendleft(number)
                    else:
                        replies[number] = reply
                if worker.has_ended:
                    self._workers.remove(worker)
                    worker.kill()
        return [replies[number] for number in range(len(requests))]

    def _fill(self, n_waiting: int) -> None:
        """As many processes as there is work for."""
        for worker in [worker for worker in self._workers if worker.is_free and worker.is_gone]:
            self._workers.remove(worker)
            worker.kill()
        n_busy = sum(worker.number is not None for worker in self._workers)
        while len(self._workers) < min(self._size, n_busy + n_waiting):
            self._workers.append(_Worker(self._script, self.limits))


class _Worker:
    """One process and what it was asked last."""

    def __init__(self, script: Path, limits: Limits) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="trims-grading-")
        self.line, theirs = Pipe()
        numbers = (theirs.fileno(), limits.memory_mib, limits.cpu_s, limits.idle_s)
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | _ENV
        with theirs:
            self._child = Child(
                [sys.executable, "-P", str(script), *map(str, numbers)],
                Path(self._folder.name, "worker.log"),
                env,
                pass_fds=(theirs.fileno(),),
            )
        self.number: int | None = None
        self.is_ready = self.has_ended = False
        self.deadline = time.monotonic() + _START_S
        self._wall_s = limits.wall_s

    @property
    def is_free(self) -> bool:
        return self.is_ready and self.number is None

    @property
    def is_gone(self) -> bool:
        """A free one says nothing: what is there to be heard is its end."""
        return self.line.poll()

    def take(self, number: int, request: object) -> None:
        """Start on a request."""
        self.number, self.deadline = number, time.monotonic() + self._wall_s
        with suppress(OSError):  # it has ended, which is heard next
            self.line.send_bytes(json.dumps(request).encode())

    def heard(self, limits: Limits) -> list[tuple[int, Reply | None]]:
        """The reply to its request, if there is one by now; None: it was never begun."""
        number = self.number
        if self.line.poll():
            try:
                values = json.loads(self.line.recv_bytes())
            except (EOFError, OSError):
                return self._at_its_end(limits)
            self.deadline = float("inf")
            if not self.is_ready:
                self.is_ready = True
                return []
            self.number = None
            assert number is not None
            return [(number, Reply(values, values.get("problem")))]
        if time.monotonic() < self.deadline:
            return []
        self.has_ended = True
        if number is None:
            raise ConfigError(self._no_start(f"did not start within {_START_S:g} s"))
        return [(number, Reply({}, f"waited for more than {limits.wall_s:g} s", timed_out=True))]

    def _at_its_end(self, limits: Limits) -> list[tuple[int, Reply | None]]:
        code, self.has_ended = self._child.wait(5.0), True
        if not self.is_ready:
            raise ConfigError(self._no_start(self._child.ending()))
        if self.number is None:
            return []
        if code == 0:
            return [(self.number, None)]
        if code == -signal.SIGPROF:
            problem = f"takes more than {limits.cpu_s:g} s of CPU time"
            return [(self.number, Reply({}, problem, timed_out=True))]
        return [(self.number, Reply({}, f"its process {self._child.ending()}"))]

    def _no_start(self, what: str) -> str:
        return f"a grading process {what}; expected it to wait for answers. {self._child.last_words()}"

    def kill(self) -> None:
        """End it."""
        self.line.close()
        self._child.kill()
        self._folder.cleanup()


_POOLS: Final[dict[Path, WorkerPool]] = {}


def shared_pool(script: Path) -> WorkerPool:
    """The pool of a script that everybody in this process uses, with a process per CPU, at most 8."""
    if script not in _POOLS:
        _POOLS[script] = pool = WorkerPool(script, min(8, len(os.sched_getaffinity(0))))
        atexit.register(pool.close)
    return _POOLS[script]
