"""The demo's word problems: {"id", "question", "answer"}; the answer is a number or a worked answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.benchmarks.numbers import normalised
from trims_core.raw_rows import Columns, Source, UnusableRowError, id_in, text_in

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
    columns: ClassVar[Columns] = Columns(("question", "answer"), ("id",))
    default_source: ClassVar[Source] = Source(path=(str(_SHIPPED),))

    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        answer = text_in(row, "answer", blank=False)
        gold = normalised(answer) or self.extract(answer)
        if gold is None:
            raise UnusableRowError(
                f"'answer' is {answer!r:.60}", 'expected a number, or a text that ends in "The answer is N."'
            )
        question = text_in(row, "question", blank=False)
        message = {"role": "user", "content": question}
        return Problem(id_in(row, "id") or f"demo-{number:05d}", (message,), gold, {"question": question})

    def extract(self, text: str) -> str | None:
        found = _ANSWER.findall(text)
        return normalised(found[-1]) if found else None
