"""The demo's word problems: {"id", "question", "answer"}; the answer is a number or a worked answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from trims_core.benchmarks.benchmark import Benchmark, Problem, text_field
from trims_core.benchmarks.numbers import normalised
from trims_core.benchmarks.sources import BrokenRowError, Source

_ANSWER: Final = re.compile(r"The answer is (-?\d[\d,]*(?:\.\d+)?)\.")
_SHIPPED: Final = Path(__file__).resolve().parents[2] / "data" / "demo" / "test.jsonl"


class Demo(Benchmark):
    """Right means: the number in the last complete sentence "The answer is N." equals the worked answer's.

    No other number counts: a text without that sentence has no answer, and one that was cut off before the
    full stop has none either.
    """

    name: ClassVar[str] = "demo"
    grader: ClassVar[str] = "last_answer_sentence"
    grader_version: ClassVar[int] = 1
    default_source: ClassVar[Source] = Source(path=(str(_SHIPPED),))

    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        answer = text_field(row, "answer")
        gold = normalised(answer) or self.extract(answer)
        if gold is None:
            raise BrokenRowError(
                f"expected a number or \"… The answer is N.\" in 'answer', found {answer!r:.60}"
            )
        message = {"role": "user", "content": text_field(row, "question")}
        return Problem(str(row.get("id", f"demo-{number:05d}")), (message,), gold)

    def extract(self, text: str) -> str | None:
        found = _ANSWER.findall(text)
        return normalised(found[-1]) if found else None
