"""Verdicts of programs, each run in a box of its own that is gone when its verdict is told."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from trims_core.errors import SandboxError
from trims_core.sandbox import box
from trims_core.sandbox.boxed_process import BoxedProcess
from trims_core.sandbox.inside.channel import EndedError
from trims_core.sandbox.inside.plain import NotPlainError
from trims_core.sandbox.limits import Limits
from trims_core.sandbox.program import Outcome, Program

_TRIAL: Final = Program("def f(): return 1", ("f",), ("assert f() == 1",))
_numbers: Final = itertools.count()


class Sandbox:
    """Runs programs under limits.

    Covered, and tried by a corpus of hostile programs: what `box` keeps from them, the limits, verdicts made
    up in any way. Not covered: a program that knows a test's answers by heart; answers that are no plain
    values (wrong, whatever they hold); arguments changed in place, which tests do not see; what is printed.
    """

    def __init__(self, limits: Limits | None = None, *, unsafe: bool = False) -> None:
        """Try it with a program of our own.

        Args:
            unsafe: no box: programs can read, write and reach whatever we can. Say `mark` with every number.

        Raises:
            SandboxError: programs cannot be contained here.
        """
        self._limits = limits or Limits()
        self._unsafe = unsafe
        trial = self.run(_TRIAL)
        if trial.verdict != "right":
            raise SandboxError(
                f"generated code cannot be contained here: a trial under bubblewrap says {trial.problem}."
                " It needs Linux on x86_64 or aarch64 and user namespaces, or root with CAP_SYS_ADMIN: sysctl"
                " kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; of a"
                " container the option --privileged"
            )

    @property
    def mark(self) -> str:
        """What contained the programs; stands beside every number that came of them."""
        return "none: programs ran without a sandbox (unsafe)" if self._unsafe else "bubblewrap"

    def run_all(self, programs: Iterable[Program], workers: int | None = None) -> list[Outcome]:
        """One outcome per program, in order.

        Args:
            workers: programs at a time; None: one per CPU that we may use.
        """
        with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
            return list(pool.map(self.run, programs))

    def run(self, program: Program) -> Outcome:
        """Its outcome; trouble of the sandbox' own is tried once more."""
        outcome = self._run_once(program)
        return self._run_once(program) if outcome.verdict == "error" else outcome

    def _run_once(self, program: Program) -> Outcome:
        limits, nonce = self._limits, secrets.token_hex(16)
        with BoxedProcess(None if self._unsafe else box.boxed_command) as process:
            try:
                process.limit(limits.start_s)
                process.send((program.source, self._settings()))
                process.receive()
            except NotPlainError as error:
                return Outcome("wrong", f"the program: {error}")
            except (EndedError, TimeoutError):
                return Outcome("error", f"it did not start: {process.last_words() or 'it said nothing'}")
            try:
                process.limit(limits.time_s)
                told = process.receive()
                if told == ("ran",):
                    process.send((nonce, program.prelude, list(program.names), list(program.tests)))
                    told = process.receive()
            except TimeoutError:
                return Outcome("timeout", f"more than {limits.time_s:g} s")
            except EndedError:
                return Outcome("error", "the judge's process ended without a verdict")
        match told:
            case (signed, "right" | "wrong" | "timeout" as verdict, problem) if signed == nonce:
                return Outcome(verdict, problem)
            case ("trouble", str(problem)):
                return Outcome("error", problem)
        return Outcome("error", "a verdict that nobody signed")

    def _settings(self) -> dict[str, object]:
        limits = self._limits
        return {
            "cpu_s": limits.cpu_s,
            "memory_mib": limits.memory_mib,
            "file_mib": limits.file_mib,
            "open_files": limits.open_files,
            # program, judge, and what reaps in the box
            "processes": 3 + limits.threads,
            "filter": not self._unsafe,
            "identity": None if self._unsafe else box.identity(next(_numbers)),
        }
