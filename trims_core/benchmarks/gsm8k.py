"""GSM8K: grade-school mathematics, {"question", "answer"} with the gold number after "####".

Source: Cobbe et al. 2021 (arXiv 2110.14168), whose answers end in `#### N`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.benchmarks.numbers import NUMBER, last_number, normalised
from trims_core.raw_rows import Columns, Source, UnusableRowError, id_in, text_in

_MARK: Final = "####"


class Gsm8k(Benchmark):
    """Right means: the answer's number equals the gold one exactly, after `1,234.0` → `1234`.

    The answer of a text is the first number behind its last "####" (the data set's own format, which tuned
    models follow), and no other where that mark stands. Only a text without the mark is read as models that
    never saw it answer: its last number counts, as in lm-evaluation-harness's `flexible-extract`.
    """

    name: ClassVar[str] = "gsm8k"
    grader: ClassVar[str] = "gsm8k_number"
    grader_version: ClassVar[int] = 1
    columns: ClassVar[Columns] = Columns(("question", "answer"), ("id",))
    default_source: ClassVar[Source] = Source(hub="openai/gsm8k", hub_config="main")

    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        answer = text_in(row, "answer", blank=False)
        gold = self.extract(answer) if _MARK in answer else None
        if gold is None:
            raise UnusableRowError(
                f"'answer' ends in {answer[-40:]!r}", f'expected a number behind "{_MARK}"'
            )
        question = text_in(row, "question", blank=False)
        message = {"role": "user", "content": question}
        return Problem(id_in(row, "id") or f"gsm8k-{number:05d}", (message,), gold, {"question": question})

    def extract(self, text: str) -> str | None:
        _, mark, behind = text.rpartition(_MARK)
        if not mark:
            return last_number(text)
        found = NUMBER.match(behind.lstrip())
        return normalised(found.group()) if found else None
