"""The verdict on one answer to a prompt of the corpus, and what is told of a grader that fails."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trims_core.benchmarks import Grade, Grader, OwnGrader
from trims_core.benchmarks.graders import Verdict
from trims_core.benchmarks.graders.grader import failure
from trims_core.benchmarks.rewards import finite
from trims_core.errors import TrimsError

logger = logging.getLogger(__name__)

_REWARDS: Final[Mapping[Verdict, float]] = {"right": 1.0, "wrong": 0.0}
_TAIL: Final = 40


@dataclass(frozen=True)
class RolloutGrade(Grade):
    """What was said of an answer that is trained on."""

    reward: float | None = None
    """None without a verdict on it."""
    gold: str | None = None
    """The right answer, which had to be found first."""
    parts: tuple[float | None, ...] = ()
    """What each of several rewards gave; None where it says nothing of the answer."""


def judge_completion(grader: Grader, text: str, completion: str) -> RolloutGrade:
    """The grade of a text beside a completion whose answer is the right one, and that answer."""
    try:
        gold = grader.extract(completion)
        if gold is None:
            raise ValueError(f"finds no answer in the corpus' completion, which ends {completion[-_TAIL:]!r}")
    except TrimsError:
        raise
    except Exception as error:  # noqa: BLE001
        return _failed(error)
    (found,) = grader.grades([text], [gold])
    return RolloutGrade(
        found.verdict, found.extracted, found.problem, reward=_REWARDS.get(found.verdict), gold=gold
    )


def judge_own(
    grader: OwnGrader, messages: Sequence[Mapping[str, str]], text: str, answer: str, right_from: float
) -> RolloutGrade:
    """What the user's function says of a text: a truth value, or a reward, right from some value on."""
    try:
        given = grader(messages, text, answer)
        reward = finite(given)
    except TrimsError:
        raise
    except Exception as error:  # noqa: BLE001
        return _failed(error)
    right = given if isinstance(given, bool) else reward >= right_from
    return RolloutGrade("right" if right else "wrong", None, reward=reward)


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


def _failed(error: Exception) -> RolloutGrade:
    verdict, problem = failure(error)
    return RolloutGrade(verdict, None, problem)
