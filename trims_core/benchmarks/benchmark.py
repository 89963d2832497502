"""What a benchmark is: where its rows come from, how a row becomes a problem, and who grades answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, ClassVar

from trims_core.errors import ConfigError, CorpusError
from trims_core.raw_rows import Columns, Copy, Problems, Row, Source, UnusableRowError, read_rows
from trims_core.sweep_sections import TaskConfig


@dataclass(frozen=True)
class Problem:
    """One question with its right answer."""

    id: str
    messages: tuple[Mapping[str, str], ...]
    """The conversation so far; the last message is the user's."""
    gold: str
    """As its graders take it: what `extract` of the main one gives for a right answer, or JSON of what is
    more than one value."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the words of a profile may name: the question, numbers, a target, a puzzle."""
    answer_prefix: str = ""
    """What the answer has already begun with."""
    chat: bool = True
    """Whether the student's chat template is applied; else the one message is the whole text."""

    @classmethod
    def asking(cls, name: str, question: str, gold: str, **facts: str) -> Problem:
        """A problem whose one message is its question, which is a fact as well."""
        message = {"role": "user", "content": question}
        return cls(name, (message,), gold, {"question": question, **facts})

    def conversation(self, system_prompt: str | None) -> tuple[Mapping[str, str], ...]:
        """What is asked, behind a run's system prompt if there is one."""
        if system_prompt is None:
            return self.messages
        return ({"role": "system", "content": system_prompt}, *self.messages)


class Benchmark(ABC):
    """A set of problems. Subclasses say how a row reads."""

    name: ClassVar[str]
    graders: ClassVar[tuple[str, ...]]
    """Who may judge its answers, by name: the main one first, then the one that is printed beside it."""
    columns: ClassVar[Columns]
    """What is read of a row."""
    default_source: ClassVar[Source | None]
    """Used where the task names neither a path nor a hub data set; None: it has to."""
    names_columns: ClassVar[bool] = False
    """Whether a task may say in which columns question and answer stand."""

    def source(self, task: TaskConfig) -> Source:
        """Where a task's rows come from; a local path wins over a hub name. Raises: ConfigError: nowhere."""
        if task.path is None and task.hub is None:
            if self.default_source is None:
                raise ConfigError(f"benchmark {self.name}: no path and no hub; it has no data of its own")
            return replace(self.default_source, revision=task.revision)
        hub = task.hub if task.path is None else None
        return Source(task.path, hub, task.hub_config, task.split, task.revision)

    def for_task(self, task: TaskConfig) -> Benchmark:
        """The one that reads a task's rows."""
        del task
        return self

    def reads(self) -> Columns:
        """What is read of a row."""
        return self.columns

    def load(self, task: TaskConfig) -> list[Problem]:
        """The task's problems in the order of its source, at most `task.limit`, behind what a profile skips.

        Raises:
            CorpusError: rows that cannot be used, each with its place; or no rows at all.
            DuplicateIdError: an id occurs twice.
            ConfigError: the source cannot be read.
        """
        source, reader = self.source(task), self.for_task(task)
        problems: list[Problem] = []
        wrong, firsts = Problems(self.name), dict[str, Copy]()
        skipped = 0 if task.protocol is None else task.protocol.skip
        last = None if task.limit is None else skipped + task.limit
        rows: Iterator[Row] = islice(read_rows(source, reader.reads(), wrong), skipped, last)
        for number, row in enumerate(rows, skipped):
            try:
                problem = reader.problem(row.values, number)
            except UnusableRowError as error:
                wrong.unusable(row.place, error.what, error.remedy)
                continue
            copy = Copy(problem.id, row.place, repr(problem))
            if problem.id in firsts:
                wrong.duplicate(copy)
                wrong.first_seen(firsts[problem.id])
            firsts.setdefault(problem.id, copy)
            problems.append(problem)
        if wrong:
            raise wrong.error()
        if not problems:
            behind = f" behind the first {skipped}, which the prompt shows" if skipped else ""
            raise CorpusError(f"{self.name}: no problems in {source.text()}{behind}; expected at least one")
        return problems

    @abstractmethod
    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        """One row as a problem; `number` counts the rows from 0. Raises: UnusableRowError."""
