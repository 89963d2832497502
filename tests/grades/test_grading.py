"""The verdict on one answer: a grader that fails is counted, and only an interruption gets through."""

from __future__ import annotations

from typing import Any

import pytest

from trims_core.benchmarks import BENCHMARKS, Benchmark, get_benchmark
from trims_core.errors import InterruptedRunError
from trims_core.grades.grading import UNGRADED, VERDICTS, Grade, judge

DEMO = get_benchmark("demo")


def failing(error: Exception, *, extracts: bool = False) -> Benchmark:
    """A benchmark whose grader raises, in `extract` or behind it."""

    class Failing(type(DEMO)):  # type: ignore[misc]
        def extract(self, text: str) -> str | None:
            if extracts:
                return "5"
            raise error

        def grade(self, text: str, gold: str) -> bool:
            raise error

    return Failing()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 5.", Grade("right", "5")),
        ("The answer is 6.", Grade("wrong", "6")),
        ("I do not know.", Grade("wrong", None)),
    ],
)
def test_an_answer_is_right_or_wrong_with_what_was_found_in_it(text: str, expected: Grade) -> None:
    assert judge(DEMO, text, "5") == expected


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(ZeroDivisionError("x"), "error"), (RecursionError("x"), "error"), (TimeoutError("x"), "timeout")],
)
def test_a_grader_that_raises_gives_a_verdict_on_itself(error: Exception, verdict: Any) -> None:
    assert judge(failing(error), "The answer is 5.", "5") == Grade(
        verdict, None, f"{type(error).__name__}: x"
    )
    assert judge(failing(error, extracts=True), "x", "5").extracted == "5"
    assert verdict in UNGRADED


def test_an_interruption_stops_the_grading() -> None:
    with pytest.raises(InterruptedRunError):
        judge(failing(InterruptedRunError("stopped")), "x", "5")


def test_the_verdicts_are_those_of_the_table() -> None:
    assert VERDICTS == ("right", "wrong", "timeout", "error")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_names_its_grader_and_the_graders_version(name: str) -> None:
    benchmark = BENCHMARKS[name]
    assert benchmark.grader
    assert benchmark.grader_version >= 1
