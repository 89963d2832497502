"""The verdict on one answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, get_args

from trims_core.benchmarks import Benchmark, OwnGrader
from trims_core.benchmarks.rewards import finite
from trims_core.errors import TrimsError

logger = logging.getLogger(__name__)

Verdict: TypeAlias = Literal["right", "wrong", "timeout", "error"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
UNGRADED: Final[tuple[Verdict, ...]] = ("timeout", "error")
"""Verdicts on the grader rather than on the answer; in an accuracy they count as not right."""
_REWARDS: Final[Mapping[Verdict, float]] = {"right": 1.0, "wrong": 0.0}
_TAIL: Final = 40


@dataclass(frozen=True)
class Grade:
    """What a grader said of one answer."""

    verdict: Verdict
    extracted: str | None
    """The answer found in the text; None where there is none, or the grader failed before it found one."""
    problem: str | None = None
    """What a grader raised."""
    reward: float | None = None
    """Of an answer that is trained on; None without a verdict on it."""
    gold: str | None = None
    """The right answer, where it had to be found first."""
    parts: tuple[float | None, ...] = ()
    """What each of several rewards gave; None where it says nothing of the answer."""


def judge(benchmark: Benchmark, text: str, gold: str) -> Grade:
    """The grade of a text. A grader that raises gives `error`, or `timeout` for TimeoutError."""
    extracted = None
    try:
        extracted = benchmark.extract(text)
        right = benchmark.grade(text, gold)
    except TrimsError:  # an interruption among them, which must stop the run
        raise
    except Exception as error:  # noqa: BLE001 - a grader meets any text; one it stumbles over is counted
        return _failed(error, extracted)
    return Grade("right" if right else "wrong", extracted)


def judge_completion(benchmark: Benchmark, text: str, completion: str) -> Grade:
    """The grade of a text beside a completion whose answer is the right one, and that answer."""
    try:
        gold = benchmark.extract(completion)
        if gold is None:
            raise ValueError(f"finds no answer in the corpus' completion, which ends {completion[-_TAIL:]!r}")
    except TrimsError:
        raise
    except Exception as error:  # noqa: BLE001
        return _failed(error, None)
    found = judge(benchmark, text, gold)
    return replace(found, gold=gold, reward=_REWARDS.get(found.verdict))


def judge_own(
    grader: OwnGrader, messages: Sequence[Mapping[str, str]], text: str, answer: str, right_from: float
) -> Grade:
    """What the user's function says of a text: a truth value, or a reward, right from some value on."""
    try:
        given = grader(messages, text, answer)
        reward = finite(given)
    except TrimsError:
        raise
    except Exception as error:  # noqa: BLE001
        return _failed(error, None)
    right = given if isinstance(given, bool) else reward >= right_from
    return Grade("right" if right else "wrong", None, reward=reward)


def tell_failures(where: str, grader: str, names: Sequence[str], grades: Sequence[Grade]) -> None:
    """Log how many answers a grader stumbled over, and over what."""
    problems = [(name, grade.problem) for name, grade in zip(names, grades, strict=True) if grade.problem]
    for name, problem in problems[:1]:
        logger.warning(
            "%s: the grader %s failed on %d of %d answers; the first: %s on %s",
            where,
            grader,
            len(problems),
            len(names),
            problem,
            name,
        )


def _failed(error: Exception, extracted: str | None) -> Grade:
    verdict: Verdict = "timeout" if isinstance(error, TimeoutError) else "error"
    return Grade(verdict, extracted, f"{type(error).__name__}: {error}")
