"""Any rows with a question and an answer, graded by name: a benchmark without code.

sweep: {tasks: {mine: {benchmark: qa, path: mine.jsonl, graders: number_last_box}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.benchmarks.graders import Grader, get_grader
from trims_core.raw_rows import Columns, Source, UnusableRowError, id_in, text_in
from trims_core.sweep_sections import TaskConfig


class Qa(Benchmark):
    """Right means: what the task's first grader says, which also reads the answers of the rows."""

    name: ClassVar[str] = "qa"
    graders: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[Columns] = Columns(("question", "answer"), ("id",))
    default_source: ClassVar[Source | None] = None
    names_columns: ClassVar[bool] = True

    def __init__(self, question: str = "question", answer: str = "answer", grader: Grader | None = None):
        self._question, self._answer, self._grader = question, answer, grader

    def for_task(self, task: TaskConfig) -> Benchmark:
        assert task.graders  # checked with the settings
        return Qa(task.question or self._question, task.answer or self._answer, get_grader(task.graders[0]))

    def reads(self) -> Columns:
        return Columns((self._question, self._answer), ("id",))

    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        question = text_in(row, self._question, blank=False)
        return Problem.asking(id_in(row, "id") or f"qa-{number:05d}", question, self._gold(row))

    def _gold(self, row: Mapping[str, Any]) -> str:
        value = row.get(self._answer)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        answer = str(value) if is_number else text_in(row, self._answer, blank=False)
        assert self._grader is not None
        try:
            gold = self._grader.gold_of(answer)
        except ValueError as error:
            raise UnusableRowError(str(error), f"expected what {self._grader.name} takes") from error
        if gold is None:
            raise UnusableRowError(
                f"{self._answer!r} is {answer!r:.60}",
                f"expected an answer in which {self._grader.name} finds {self._grader.says}",
            )
        return gold
