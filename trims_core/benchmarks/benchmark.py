"""What a benchmark is: where its rows come from, how a row becomes a problem, and how a text is graded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

from trims_core.benchmarks.sources import BrokenRowError, Row, Source, read_rows
from trims_core.config import TaskConfig
from trims_core.errors import CorpusError, DuplicateIdError

_SHOWN_AT_MOST = 10


@dataclass(frozen=True)
class Problem:
    """One question with its right answer."""

    id: str
    messages: tuple[Mapping[str, str], ...]
    """The conversation so far; the last message is the user's."""
    gold: str
    """Normalised: what `Benchmark.extract` gives for a right answer."""


class Benchmark(ABC):
    """A set of problems and their grading. Subclasses say how a row reads and how an answer looks."""

    name: ClassVar[str]
    grader: ClassVar[str]
    """What judges its answers, by name; benchmarks that share a grader give it the same name."""
    grader_version: ClassVar[int]
    """Raised whenever `extract` or `grade` may judge an answer differently."""
    default_source: ClassVar[Source]
    """Used where the task names neither a path nor a hub data set."""

    def source(self, task: TaskConfig) -> Source:
        """Where a task's rows come from; a local path wins over a hub name."""
        if task.path is None and task.hub is None:
            return replace(self.default_source, revision=task.revision)
        hub = task.hub if task.path is None else None
        return Source(task.path, hub, task.hub_config, task.split, task.revision)

    def load(self, task: TaskConfig) -> list[Problem]:
        """The task's problems in the order of its source, at most `task.limit`.

        Raises:
            CorpusError: rows that cannot be used, each with its place; or no rows at all.
            DuplicateIdError: an id occurs twice.
            ConfigError: the source cannot be read.
        """
        source = self.source(task)
        problems: list[Problem] = []
        broken: list[str] = []
        places: dict[str, str] = {}
        rows: Iterator[Row] = islice(read_rows(source), task.limit)
        for number, row in enumerate(rows):
            try:
                problem = self.problem(row.values(), number)
            except BrokenRowError as error:
                broken.append(f"{row.place}: {error}")
                continue
            if problem.id in places:
                raise DuplicateIdError(
                    f"{self.name}: id {problem.id!r} occurs at {places[problem.id]} and at {row.place};"
                    " expected every problem once. Remove one of them"
                )
            places[problem.id] = row.place
            problems.append(problem)
        if broken:
            more = f"\n  … and {len(broken) - _SHOWN_AT_MOST} more" if len(broken) > _SHOWN_AT_MOST else ""
            raise CorpusError(
                f"{self.name}: {len(broken)} rows cannot be used; correct or remove them:\n  "
                + "\n  ".join(broken[:_SHOWN_AT_MOST])
                + more
            )
        if not problems:
            raise CorpusError(f"{self.name}: no problems in {source.text()}; expected at least one")
        return problems

    @abstractmethod
    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        """One row as a problem; `number` counts the rows from 0. Raises: BrokenRowError."""

    @abstractmethod
    def extract(self, text: str) -> str | None:
        """The answer a text gives, normalised; None where it gives none."""

    def grade(self, text: str, gold: str) -> bool:
        """Whether the text's answer is exactly the normalised gold answer."""
        return self.extract(text) == gold


def text_field(row: Mapping[str, Any], name: str) -> str:
    """A column that must hold text. Raises: BrokenRowError."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        found = f"found {type(value).__name__} {value!r:.60}" if name in row else f"has only {sorted(row)}"
        raise BrokenRowError(f"expected text in {name!r}, {found}")
    return value
