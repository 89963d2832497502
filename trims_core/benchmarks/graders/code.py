"""Graders of programs: what a text's program does in the sandbox when the benchmark's tests ask it.

A right answer is JSON: {"prompt", "test", "entry_point"} of HumanEval, {"tests", "names", "imports"} of MBPP.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Final

from trims_core.benchmarks.graders.grader import Grade, Grader, failure
from trims_core.benchmarks.graders.python_code import fenced, longest_valid, needed_by
from trims_core.sandbox import Limits, Outcome, Program, Sandbox

LIMITS: Final = Limits(time_s=30.0, cpu_s=10)
"""Of each program with its tests. One reference solution of MBPP (task 123) takes half of the CPU seconds."""
_DONE: Final = "[DONE]"


class CodeGrader(Grader):
    """Right means: every test of the problem passes. Whatever a program does instead is wrong, or timeout."""

    finds_gold: ClassVar[bool] = False

    def __init__(self, *, unsafe: bool = False) -> None:
        """Nothing is started yet.

        Args:
            unsafe: without a sandbox; the name of every such grade then says so.
        """
        self._unsafe = unsafe

    @property
    def key(self) -> str:
        return f"{super().key} without a sandbox" if self._unsafe else super().key

    def without_sandbox(self) -> Grader:
        return type(self)(unsafe=True)

    @property
    def sandbox(self) -> Sandbox:
        """What runs the programs; its `mark` belongs beside the numbers. Raises: SandboxError."""
        return _sandbox(self._unsafe)

    @abstractmethod
    def program(self, text: str, gold: Mapping[str, Any]) -> Program:
        """The program of a text, with its tests."""

    def is_right(self, text: str, gold: str) -> bool:
        outcome = self.sandbox.run(self.program(text, json.loads(gold)))
        if outcome.verdict == "timeout":
            raise TimeoutError(outcome.problem)
        return outcome.verdict == "right"

    def grade(self, text: str, gold: str) -> Grade:
        return self.grades([text], [gold])[0]

    def grades(self, texts: Sequence[str], golds: Sequence[str]) -> list[Grade]:
        """As many programs at a time as there are CPUs. Raises: SandboxError: they cannot be contained."""
        found: list[Grade | Program] = [
            self._program_or_failure(text, gold) for text, gold in zip(texts, golds, strict=True)
        ]
        programs = [one for one in found if isinstance(one, Program)]
        outcomes = iter(self.sandbox.run_all(programs))
        return [one if isinstance(one, Grade) else _grade(one, next(outcomes)) for one in found]

    def _program_or_failure(self, text: str, gold: str) -> Grade | Program:
        try:
            return self.program(text, json.loads(gold))
        except Exception as error:  # noqa: BLE001 - one over which it stumbles is counted, as in `Grader.grade`
            verdict, problem = failure(error)
            return Grade(verdict, None, problem)


@cache
def _sandbox(unsafe: bool) -> Sandbox:
    return Sandbox(LIMITS, unsafe=unsafe)


def _grade(program: Program, outcome: Outcome) -> Grade:
    """`problem` is a grader's own; that a program is wrong is none."""
    judged = outcome.verdict in ("right", "wrong")
    return Grade(outcome.verdict, program.source, None if judged else outcome.problem)


class HumanEvalRaw(CodeGrader):
    """The text goes on where the prompt ends, as base models answer."""

    name: ClassVar[str] = "humaneval_raw"
    version: ClassVar[int] = 1
    says: ClassVar[str] = "prompt and text together pass HumanEval's tests, as they stand"

    def extract(self, text: str) -> str | None:
        return text

    def program(self, text: str, gold: Mapping[str, Any]) -> Program:
        return _of_humaneval(f"{gold['prompt']}{text}", gold)


class HumanEval(CodeGrader):
    """The published clean-up: what is between code fences, behind the prompt; of both together the longest
    run of lines that is Python, and of that what the asked function needs."""

    name: ClassVar[str] = "humaneval"
    version: ClassVar[int] = 1
    says: ClassVar[str] = "what the function needs of prompt and fenced text passes HumanEval's tests"

    def extract(self, text: str) -> str | None:
        return fenced(text)

    def program(self, text: str, gold: Mapping[str, Any]) -> Program:
        code = longest_valid(f"{gold['prompt']}\n{fenced(text)}")
        return _of_humaneval(needed_by(code, (gold["entry_point"],)), gold)


class MbppRaw(CodeGrader):
    """The text is the program, as models answer that were shown examples ending in [DONE]."""

    name: ClassVar[str] = "mbpp_raw"
    version: ClassVar[int] = 1
    says: ClassVar[str] = "the text passes MBPP's tests, as it stands"

    def extract(self, text: str) -> str | None:
        return text

    def program(self, text: str, gold: Mapping[str, Any]) -> Program:
        return _of_mbpp(text, gold)


class Mbpp(CodeGrader):
    """What stands before [DONE] and between code fences; of that the longest run of lines that is Python,
    and of that what the names need that the tests use."""

    name: ClassVar[str] = "mbpp"
    version: ClassVar[int] = 1
    says: ClassVar[str] = "what the tested names need of the fenced text passes MBPP's tests"

    def extract(self, text: str) -> str | None:
        return fenced(text.split(_DONE)[0])

    def program(self, text: str, gold: Mapping[str, Any]) -> Program:
        code = longest_valid(fenced(text.split(_DONE)[0]))
        return _of_mbpp(needed_by(code, gold["names"]), gold)


def _of_humaneval(source: str, gold: Mapping[str, Any]) -> Program:
    """What a prompt defines for its tests is taken from the prompt, not from the answer."""
    name = str(gold["entry_point"])
    return Program(source, (name,), (gold["test"], f"check({name})"), gold["prompt"])


def _of_mbpp(source: str, gold: Mapping[str, Any]) -> Program:
    return Program(source, gold["names"], gold["tests"], gold["imports"])
