"""The verdict on one answer: a grader that fails is counted, and only an interruption gets through."""

from __future__ import annotations

from typing import Any

import pytest

from trims_core.benchmarks import BENCHMARKS, GRADERS, Grade, get_grader
from trims_core.benchmarks.graders import UNGRADED, VERDICTS
from trims_core.benchmarks.graders.numbers import LastAnswerSentence
from trims_core.errors import ConfigError, InterruptedRunError

SENTENCE = get_grader("last_answer_sentence")


class Failing(LastAnswerSentence):
    """Raises, in `extract` or behind it."""

    def __init__(self, error: Exception, *, extracts: bool = False) -> None:
        self.error, self.extracts = error, extracts

    def extract(self, text: str) -> str | None:
        if self.extracts:
            return "5"
        raise self.error

    def is_right(self, text: str, gold: str) -> bool:
        raise self.error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 5.", Grade("right", "5")),
        ("The answer is 6.", Grade("wrong", "6")),
        ("I do not know.", Grade("wrong", None)),
    ],
)
def test_an_answer_is_right_or_wrong_with_what_was_found_in_it(text: str, expected: Grade) -> None:
    assert SENTENCE.grade(text, "5") == expected


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(ZeroDivisionError("x"), "error"), (RecursionError("x"), "error"), (TimeoutError("x"), "timeout")],
)
def test_a_grader_that_raises_gives_a_verdict_on_itself(error: Exception, verdict: Any) -> None:
    failed = Grade(verdict, None, f"{type(error).__name__}: x")
    assert Failing(error).grades(["The answer is 5.", "x"], ["5", "6"]) == [failed, failed]
    assert Failing(error, extracts=True).grade("x", "5").extracted == "5"
    assert verdict in UNGRADED


def test_an_interruption_stops_the_grading() -> None:
    with pytest.raises(InterruptedRunError):
        Failing(InterruptedRunError("stopped")).grades(["x"], ["5"])


def test_the_verdicts_are_those_of_the_table() -> None:
    assert VERDICTS == ("right", "wrong", "timeout", "error")


@pytest.mark.parametrize("name", GRADERS)
def test_every_grader_has_its_name_a_version_and_says_when_an_answer_is_right(name: str) -> None:
    grader = get_grader(name)
    assert (grader.name, grader.key) == (name, f"{name} {grader.version}")
    assert grader.version >= 1
    assert grader.says
    assert "\n" not in grader.says


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_names_graders_that_exist(name: str) -> None:
    graders = BENCHMARKS[name].graders
    assert len(set(graders)) == len([get_grader(one) for one in graders])


def test_names_and_versions_that_stand_in_keys_stay() -> None:
    keys = {name: get_grader(BENCHMARKS[name].graders[0]).key for name in ("demo", "gsm8k")}
    assert keys == {"demo": "last_answer_sentence 1", "gsm8k": "gsm8k_number 1"}


def test_an_unknown_grader_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"'gsm8k_numbr' is not known; did you mean 'gsm8k_number'"):
        get_grader("gsm8k_numbr")
