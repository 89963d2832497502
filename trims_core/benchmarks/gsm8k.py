"""GSM8K: grade-school mathematics, {"question", "answer"} with the gold number after "####".

Source: Cobbe et al. 2021 (arXiv 2110.14168), whose answers end in `#### N`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.benchmarks.graders.numbers import MARK, Gsm8kNumber
from trims_core.raw_rows import Columns, Source, UnusableRowError, id_in, text_in


class Gsm8k(Benchmark):
    """Right means: the answer's number equals the gold one exactly, after `1,234.0` → `1234`."""

    name: ClassVar[str] = "gsm8k"
    graders: ClassVar[tuple[str, ...]] = (
        "gsm8k_number",
        "number_flexible",
        "number_flexible_no_commas",
        "number_flexible_text",
        "number_strict",
        "number_strict_no_commas",
        "number_first_box",
        "number_first_box_no_commas",
        "number_last_box",
        "number_last_box_no_commas",
        "d1_gsm8k",
    )
    columns: ClassVar[Columns] = Columns(("question", "answer"), ("id",))
    default_source: ClassVar[Source | None] = Source(hub="openai/gsm8k", hub_config="main")

    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        answer = text_in(row, "answer", blank=False)
        gold = Gsm8kNumber().extract(answer) if MARK in answer else None
        if gold is None:
            raise UnusableRowError(f"'answer' ends in {answer[-40:]!r}", f'expected a number behind "{MARK}"')
        question = text_in(row, "question", blank=False)
        return Problem.asking(id_in(row, "id") or f"gsm8k-{number:05d}", question, gold)
