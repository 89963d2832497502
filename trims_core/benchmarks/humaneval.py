"""HumanEval: functions to complete, {"task_id", "prompt", "entry_point", "test"}.

Source: Chen et al. 2021 (arXiv 2107.03374).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.raw_rows import Columns, Source, UnusableRowError, id_in, text_in


class HumanEvalTasks(Benchmark):
    """Right means: `check(entry_point)` of the row's test passes."""

    name: ClassVar[str] = "humaneval"
    graders: ClassVar[tuple[str, ...]] = ("humaneval", "humaneval_raw")
    columns: ClassVar[Columns] = Columns(("prompt", "entry_point", "test"), ("task_id",))
    default_source: ClassVar[Source] = Source(hub="openai/openai_humaneval")

    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        prompt, test = text_in(row, "prompt", blank=False), text_in(row, "test", blank=False)
        name = text_in(row, "entry_point", blank=False)
        if not name.isidentifier():
            raise UnusableRowError(f"'entry_point' is {name[:40]!r}", "expected the name of a function")
        gold = json.dumps({"prompt": prompt, "test": test, "entry_point": name})
        facts = {"prompt": prompt, "entry_point": name}
        message = {"role": "user", "content": prompt}
        return Problem(id_in(row, "task_id") or f"HumanEval/{number}", (message,), gold, facts)
