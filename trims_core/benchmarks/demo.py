"""The demo's word problems: {"id", "question", "answer"}; the answer is a number or a worked answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.benchmarks.graders.numbers import LastAnswerSentence
from trims_core.benchmarks.numbers import normalised
from trims_core.raw_rows import Columns, Source, UnusableRowError, id_in, text_in

_SHIPPED: Final = Path(__file__).resolve().parents[2] / "data" / "demo" / "test.jsonl"


class Demo(Benchmark):
    """Right means: the number in the last complete sentence "The answer is N." equals the worked answer's."""

    name: ClassVar[str] = "demo"
    graders: ClassVar[tuple[str, ...]] = ("last_answer_sentence",)
    columns: ClassVar[Columns] = Columns(("question", "answer"), ("id",))
    default_source: ClassVar[Source | None] = Source(path=(str(_SHIPPED),))

    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        answer = text_in(row, "answer", blank=False)
        gold = normalised(answer) or LastAnswerSentence().extract(answer)
        if gold is None:
            raise UnusableRowError(
                f"'answer' is {answer!r:.60}", 'expected a number, or a text that ends in "The answer is N."'
            )
        question = text_in(row, "question", blank=False)
        return Problem.asking(id_in(row, "id") or f"demo-{number:05d}", question, gold)
