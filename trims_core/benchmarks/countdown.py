"""Countdown: reach a target with each of some numbers once, in the forms of the published test sets.

d1        {"input": "30,100,93", "output": "23"}: the numbers, and the target
Dream     {"input": "15,44,79,50", "output": "44-15=29,79-29=50"}: the last number is the target
plain     {"numbers": [30, 100, 93], "target": 23}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.raw_rows import Columns, Source, UnusableRowError, id_in, text_in

_WHOLE: Final = re.compile(r"\s*-?\d{1,50}\s*")


class Countdown(Benchmark):
    """Right means: an expression, or steps, with each number exactly once and the target as value."""

    name: ClassVar[str] = "countdown"
    graders: ClassVar[tuple[str, ...]] = ("countdown", "d1_countdown", "countdown_steps")
    columns: ClassVar[Columns] = Columns((), ("input", "output", "numbers", "target", "id"))
    default_source: ClassVar[Source | None] = None

    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        numbers, target = _puzzle(row)
        listed = ", ".join(map(str, numbers))
        return Problem.asking(
            id_in(row, "id") or f"countdown-{number:05d}",
            f"Numbers: [{listed}]\nTarget: {target}",
            json.dumps({"numbers": numbers, "target": target}),
            numbers=listed,
            joined_numbers=",".join(map(str, numbers)),
            target=str(target),
            n_numbers=str(len(numbers)),
        )


def _puzzle(row: Mapping[str, Any]) -> tuple[list[int], int]:
    if row.get("numbers") is not None:
        numbers, target = row["numbers"], row.get("target")
        if not isinstance(numbers, list) or not numbers or not all(map(_is_whole, [*numbers, target])):
            raise UnusableRowError(
                f"'numbers' is {numbers!r:.60} and 'target' {target!r:.60}", "expected whole numbers"
            )
        return numbers, int(target)  # type: ignore[arg-type]
    given = text_in(row, "input", 'add it, or "numbers" and "target"', blank=False).split(",")
    output = text_in(row, "output", blank=False)
    if not all(map(_WHOLE.fullmatch, given)):
        raise UnusableRowError(f"'input' is {row['input']!r:.60}", "expected whole numbers between commas")
    numbers = list(map(int, given))
    if _WHOLE.fullmatch(output):
        return numbers, int(output)
    if "=" not in output or len(numbers) < 2:
        raise UnusableRowError(
            f"'output' is {output!r:.60}",
            "expected the target, or steps a+b=c (then 'input' ends in the target)",
        )
    return numbers[:-1], numbers[-1]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
