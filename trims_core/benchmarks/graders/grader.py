"""What a grader is: how the answer is found in a text, and when it is right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias, get_args

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
    share: tuple[int, int] | None = None
    """How many of how many parts are right, of a grader that counts parts (a grid's empty cells)."""


class Grader(ABC):
    """Judges answers beside right ones. Subclasses say how an answer looks, and how it is compared."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever it may judge an answer differently."""
    says: ClassVar[str]
    """When an answer is right, in one line."""
    finds_gold: ClassVar[bool] = True
    """Whether `extract` finds the right answer in a worked one, as in a corpus' completions."""

    floors: ClassVar[str | None] = None
    """What its shares are without any thought, for whoever prints them."""

    @property
    def key(self) -> str:
        """`gsm8k_number 1`: what verdicts depend on besides text and right answer."""
        return f"{self.name} {self.version}"

    @abstractmethod
    def extract(self, text: str) -> str | None:
        """The answer a text gives, as it is compared; None where it gives none."""

    def gold_of(self, answer: str) -> str | None:
        """The right answer as `is_right` takes it, of what a data set gives as answer; None: it gives none.
        Raises: ValueError: the same, with a reason."""
        return self.extract(answer)

    def is_right(self, text: str, gold: str) -> bool:
        """Whether the text's answer is the right one; may raise. TimeoutError: it takes too long."""
        return self.extract(text) == gold

    def share(self, text: str, gold: str) -> tuple[int, int] | None:
        """How many of how many parts of the answer are right; None of graders that count none; may raise."""
        del text, gold
        return None

    def grade(self, text: str, gold: str) -> Grade:
        """The grade of one text. One over which the grader stumbles is `error`, or `timeout`."""
        extracted = None
        try:
            extracted = self.extract(text)
            right = self.is_right(text, gold)
            share = self.share(text, gold)
        except TrimsError:  # an interruption among them, which must stop the run
            raise
        except Exception as error:  # noqa: BLE001 - a grader meets any text; one it stumbles over is counted
            verdict, problem = failure(error)
            return Grade(verdict, extracted, problem)
        return Grade("right" if right else "wrong", extracted, share=share)

    def grades(self, texts: Sequence[str], golds: Sequence[str]) -> list[Grade]:
        """The grade of each text beside its right answer, in their order."""
        return [self.grade(text, gold) for text, gold in zip(texts, golds, strict=True)]


def failure(error: Exception) -> tuple[Verdict, str]:
    """The verdict on a grader that raised, and what it raised."""
    return "timeout" if isinstance(error, TimeoutError) else "error", f"{type(error).__name__}: {error}"
