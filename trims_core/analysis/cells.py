"""The analysed cells: samples at the analysed point, the same with one token per forward, and verdicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from trims_core.analysis.settings import AnalysisSettings
from trims_core.benchmarks import Problem
from trims_core.errors import SweepError
from trims_core.fingerprint import sha256_json
from trims_core.points import point_text
from trims_core.schema import GRADES, SAMPLES, read_table
from trims_core.stage import Work
from trims_core.store import Artifact

PROPOSALS_FILE: Final = "proposals.parquet"
_SWEEP: Final = "sweep/"
_READ: Final = ("sample_id", "n_tokens", "token_ids", "reveal_step", "confidence")


@dataclass(frozen=True)
class Files:
    """Some units of one kind, one behind the other."""

    paths: tuple[Path, ...]
    digest: str
    """Of what is in them."""


@dataclass(frozen=True)
class Cell:
    """One model's answers to one task at the analysed point."""

    model: str
    task: str
    samples: Files
    one_token: Files
    """Of the same model with one token per forward."""
    grades: Files
    """Of the samples, by the task's main grader."""

    @property
    def name(self) -> str:
        """End of its units' names: `demo/trims-s0`."""
        return f"{self.task}/{self.model}"

    def ids(self) -> list[str]:
        """Of its problems."""
        return [
            name
            for path in self.samples.paths
            for name in pq.read_table(path, columns=["sample_id"])["sample_id"].to_pylist()
        ]


@dataclass(frozen=True)
class Asked:
    """The trajectories of some problems, which are looked at state by state."""

    cell: Cell
    problems: tuple[Problem, ...]
    proposals: str
    """Name of the unit with the proposals."""


def cells_of(work: Work) -> list[Cell]:
    """Model by model, those of every task.

    Raises:
        SweepError: a sweep or its grades lack the point.
    """
    chosen: AnalysisSettings = work.settings
    models = [role.removeprefix(_SWEEP) for role in work.parents if role.startswith(_SWEEP)]
    return [_cell(work, model, task) for model in models for task in chosen.tasks]


def train_of(work: Work, model: str) -> Artifact | None:
    """The training of a model; None for the untuned student."""
    return work.parents.get(f"train/{model}")


def rows_of(files: Files) -> dict[str, dict[str, Any]]:
    """Samples by problem: what is read of them."""
    tables = (read_table(path, SAMPLES).select(_READ) for path in files.paths)
    return {row["sample_id"]: row for table in tables for row in table.to_pylist()}


def verdicts_of(files: Files) -> dict[str, str]:
    """Verdicts by problem."""
    found: dict[str, str] = {}
    for path in files.paths:
        table = read_table(path, GRADES)
        found |= dict(zip(table["sample_id"].to_pylist(), table["verdict"].to_pylist(), strict=True))
    return found


def _cell(work: Work, model: str, task: str) -> Cell:
    chosen: AnalysisSettings = work.settings
    sweep, grades = work.parents[f"{_SWEEP}{model}"], work.parents[f"grades/{model}"]
    rows = json.loads(grades.file("cells.json").read_bytes())
    units, grader = _units_at(rows, chosen, task, chosen.threshold, model)
    ones, _ = _units_at(rows, chosen, task, None, model)
    return Cell(
        model,
        task,
        samples=_files(sweep, units, "samples.parquet"),
        one_token=_files(sweep, ones, "samples.parquet"),
        grades=_files(grades, [f"{unit}/{grader}" for unit in units], "grades.parquet"),
    )


def _units_at(
    rows: Sequence[Mapping[str, Any]],
    chosen: AnalysisSettings,
    task: str,
    threshold: float | None,
    model: str,
) -> tuple[list[str], str]:
    """The sweep's units of a point, and the name of the task's main grader."""
    for row in rows:
        if (row["task"], row["cache"], row["threshold"]) == (task, chosen.cache, threshold):
            return row["units"], row["grader"].partition(" ")[0]
    raise SweepError(
        f"grades/{model}: no cell of task {task} at {point_text(chosen.rule, threshold)} with cache"
        f" {chosen.cache}; expected the sweep's points. Redo it with --refresh grades"
    )


def _files(artifact: Artifact, units: Sequence[str], name: str) -> Files:
    digests = {unit.name: unit.content_digest for unit in artifact.units}
    paths = tuple(artifact.file(f"{unit}/{name}") for unit in units)
    return Files(paths, sha256_json([digests[unit] for unit in units]))
