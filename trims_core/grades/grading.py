"""The verdict on one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from trims_core.benchmarks import Benchmark
from trims_core.errors import TrimsError

Verdict: TypeAlias = Literal["right", "wrong", "timeout", "error"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
UNGRADED: Final[tuple[Verdict, ...]] = ("timeout", "error")
"""Verdicts on the grader rather than on the answer; in an accuracy they count as not right."""


@dataclass(frozen=True)
class Grade:
    """What a grader said of one answer."""

    verdict: Verdict
    extracted: str | None
    """The answer found in the text; None where there is none, or the grader failed before it found one."""
    problem: str | None = None
    """What a grader raised."""


def judge(benchmark: Benchmark, text: str, gold: str) -> Grade:
    """The grade of a text. A grader that raises gives `error`, or `timeout` for TimeoutError."""
    extracted = None
    try:
        extracted = benchmark.extract(text)
        right = benchmark.grade(text, gold)
    except TrimsError:  # an interruption among them, which must stop the run
        raise
    except TimeoutError as error:
        return Grade("timeout", extracted, f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - a grader meets any text; one it stumbles over is counted
        return Grade("error", extracted, f"{type(error).__name__}: {error}")
    return Grade("right" if right else "wrong", extracted)
