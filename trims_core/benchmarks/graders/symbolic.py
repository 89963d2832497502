"""Graders of answers that are mathematics: by their text, and by math_verify, which computes.

math_verify runs in processes of its own (`worker_pool`, `math_worker`), under limits: it is never loaded
here, and an answer such as `9^{9^{9^9}}` costs its own verdict alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from trims_core.benchmarks.graders.grader import Grade, Grader
from trims_core.benchmarks.graders.worker_pool import Reply, shared_pool
from trims_core.benchmarks.texts import last_box

WORKER: Final = Path(__file__).with_name("math_worker.py")


class BoxedGold(Grader):
    """What graders of mathematics have in common: a right answer is what a box holds."""

    def extract(self, text: str) -> str | None:
        return last_box(text)

    def gold_of(self, answer: str) -> str | None:
        boxed = last_box(answer)
        return (answer.strip() if boxed is None else boxed) or None


class LastBoxText(BoxedGold):
    """The floor of all graders of mathematics: `0.5` is not `\\frac12`."""

    name: ClassVar[str] = "last_box_text"
    version: ClassVar[int] = 1
    says: ClassVar[str] = r"what the last complete \boxed{…} holds, character for character"


class MathVerify(BoxedGold):
    """math_verify on the whole text, as TABOM publishes: the last box, else what looks like an answer.

    Source: math-verify 0.9.0 (Apache-2.0) at its defaults, the right answer read as `\\boxed{…}`. Lenient: an
    equation is its right side, sets and tuples may be equal, units are dropped.
    """

    name: ClassVar[str] = "math_verify"
    version: ClassVar[int] = 1
    says: ClassVar[str] = "equal for math_verify 0.9.0, which looks for the answer in the whole text"

    def is_right(self, text: str, gold: str) -> bool:
        found = self.grade(text, gold)
        if found.problem is not None:
            raise (TimeoutError if found.verdict == "timeout" else ValueError)(found.problem)
        return found.verdict == "right"

    def grade(self, text: str, gold: str) -> Grade:
        (found,) = self.grades([text], [gold])
        return found

    def grades(self, texts: Sequence[str], golds: Sequence[str]) -> list[Grade]:
        read = [self.seen(text) for text in texts]
        requests = [(text, gold) for text, gold in zip(read, golds, strict=True) if text is not None]
        replies = iter(shared_pool(WORKER).ask(requests))
        return [Grade("wrong", None) if text is None else _grade(next(replies)) for text in read]

    def seen(self, text: str) -> str | None:
        """What math_verify is given of a text; None where there is nothing to give."""
        return text


class MathVerifyBox(MathVerify):
    """A text without a complete box has no answer."""

    name: ClassVar[str] = "math_verify_box"
    says: ClassVar[str] = r"equal for math_verify 0.9.0, which sees the last complete \boxed{…} alone"

    def seen(self, text: str) -> str | None:
        boxed = last_box(text)
        return None if boxed is None else f"\\boxed{{{boxed}}}"


def _grade(reply: Reply) -> Grade:
    extracted = reply.values.get("extracted")
    if reply.problem is not None:
        return Grade("timeout" if reply.timed_out else "error", extracted, reply.problem)
    return Grade("right" if reply.values["right"] else "wrong", extracted)
