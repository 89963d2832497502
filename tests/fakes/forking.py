"""Processes that fork from one that has imported the heavy modules already: real ones, really killed.

The process they fork from starts with the first of them and runs nothing itself, so that forking is safe.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

from trims_core.processes import Child

TESTS = Path(__file__).resolve().parent.parent
IMPORTED = [
    "peft",
    "trims_core.analysis.making",
    "trims_core.analysis.stage",
    "transformers.tokenization_utils_tokenizers",
    "trims_core.corpus.stage",
    "trims_core.decoding.runner",
    "trims_core.difficulty.aligned_stage",
    "trims_core.difficulty.buckets_stage",
    "trims_core.difficulty.tokens_stage",
    "trims_core.grades.stage",
    "trims_core.rendering",
    "trims_core.report.figures",
    "trims_core.report.page",
    "trims_core.report.results",
    "trims_core.report.stage",
    "trims_core.rollouts.stage",
    "trims_core.scores.stage",
    "trims_core.students.loading",
    "trims_core.sweep.stage",
    "trims_core.training.trainable",
    "trims_core.training.run",
    "trims_core.training.trainer",
]


Call = Callable[..., int | None]
"""A function of a module; None counts as 0."""


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    """Negative: the signal that killed it."""
    out: str
    err: str


@dataclass(frozen=True)
class Forked:
    """A running process."""

    process: ForkServerProcess
    folder: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def said(self, stream: str) -> str:
        """What it has written so far to `out` or `err`."""
        path = self.folder / stream
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def wait_until(self, happened: Callable[[], bool], timeout_s: float = 120) -> None:
        """Return once something is so; fail if the process ends or time runs out before."""
        deadline = time.monotonic() + timeout_s
        while not happened():
            assert self.process.is_alive() and time.monotonic() < deadline, self.said("err")
            time.sleep(0.02)

    def ended(self, timeout_s: float = 240) -> Ended:
        """Waits for its end."""
        self.process.join(timeout_s)
        said = self.said("out"), self.said("err")
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"the process did not end; it said: {said}")
        shutil.rmtree(self.folder, ignore_errors=True)
        return Ended(self.process.exitcode, *said)


class ForkedChild(Child):
    """What the launcher of a training takes for one of its processes."""

    def __init__(self, call: Call, *arguments: Any, log: Path, env: Mapping[str, str]) -> None:
        self.log = log
        self._forked = start(call, *arguments, env=env, log=log)

    @property
    def returncode(self) -> int | None:
        return self._forked.process.exitcode

    def terminate(self) -> None:
        self._forked.process.terminate()

    def kill(self) -> None:
        self._forked.process.kill()
        self._forked.ended()


def start(
    call: Call,
    *arguments: Any,
    env: Mapping[str, str] | None = None,
    told: str = "",
    log: Path | None = None,
) -> Forked:
    """A process that calls a module's function and ends with what it gives back.

    Args:
        told: what it reads from standard input.
        log: gets what it says.
    """
    folder = Path(tempfile.mkdtemp(prefix="forked-"))
    (folder / "in").write_text(told, encoding="utf-8")
    if log is not None:
        for stream in ("out", "err"):
            (folder / stream).symlink_to(log)
    process = _forking().Process(target=_become, args=(folder, dict(env or {}), call, arguments), daemon=True)
    process.start()
    return Forked(process, folder)


def run(call: Call, *arguments: Any, env: Mapping[str, str] | None = None) -> Ended:
    """How a whole process ended."""
    return start(call, *arguments, env=env).ended()


@cache
def _forking() -> ForkServerContext:
    """Starts processes that fork."""
    context = ForkServerContext()
    context.set_forkserver_preload(IMPORTED)
    return context


def _become(folder: Path, env: dict[str, str], call: Call, arguments: tuple[Any, ...]) -> None:
    sys.stdin = (folder / "in").open(encoding="utf-8")
    for number, stream in enumerate(("out", "err"), 1):
        os.dup2(os.open(folder / stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    paths = os.pathsep.join((str(TESTS), str(TESTS.parent)))
    os.environ.update({"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": paths, **env})
    import torch

    torch.set_num_threads(1)
    code = 1
    try:
        code = call(*arguments) or 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        if code == 1 and any(sys.exc_info()):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
