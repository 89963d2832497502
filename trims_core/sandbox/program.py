"""A program with its tests, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["right", "wrong", "timeout", "error"]


@dataclass(frozen=True)
class Program:
    """What is run, and how it is judged."""

    source: str
    """The candidate: whatever a model wrote, with all that it needs."""
    names: Sequence[str]
    """What the tests take from it; anything else it defines they do not see."""
    tests: Sequence[str]
    """Statements of the benchmark's, one after the other; any exception means wrong."""
    prelude: str = ""
    """Run before the tests and apart from the candidate: imports, what a prompt defines."""


@dataclass(frozen=True)
class Outcome:
    """A verdict; `error` is the sandbox' own trouble, what a candidate does is right, wrong or timeout."""

    verdict: Verdict
    problem: str | None = None
    """Why it is not right."""
