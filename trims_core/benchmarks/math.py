"""MATH: competition mathematics, {"problem", "answer"} (MATH-500), or {"problem", "solution"} with the answer
in the solution's last box (the full set).

Source: Hendrycks et al. 2021 (arXiv 2103.03874, MIT); MATH-500: Lightman et al. 2023 (prm800k, MIT).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.benchmarks.texts import last_box
from trims_core.raw_rows import Columns, Source, UnusableRowError, id_in, says_something, text_in


class Math(Benchmark):
    """Right means: equal to the gold answer as mathematics; the graders differ in how far they go."""

    name: ClassVar[str] = "math"
    graders: ClassVar[tuple[str, ...]] = ("math_verify", "d1_math", "math_verify_box", "last_box_text")
    columns: ClassVar[Columns] = Columns(
        ("problem",), ("answer", "solution", "unique_id", "id", "subject", "type", "level")
    )
    default_source: ClassVar[Source | None] = Source(hub="HuggingFaceH4/MATH-500")

    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        question = text_in(row, "problem", blank=False)
        named = id_in(row, "unique_id") or id_in(row, "id") or f"math-{number:05d}"
        about = {"subject": row.get("subject") or row.get("type"), "level": row.get("level")}
        facts = {name: str(value) for name, value in about.items() if value is not None}
        return Problem.asking(named, question, _gold(row), **facts)


def _gold(row: Mapping[str, Any]) -> str:
    if says_something(row.get("answer")):
        return text_in(row, "answer", blank=False).strip()
    found = last_box(text_in(row, "solution", 'add it, or "answer"', blank=False))
    if not found:
        raise UnusableRowError(
            f"'solution' ends in {row['solution'][-40:]!r}", "expected an answer in a complete \\boxed{…}"
        )
    return found
