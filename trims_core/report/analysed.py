"""The analysis' tables as the report reads them: one model's answers to a task at the analysed point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trims_core.report.cells import Cell, method_of
from trims_core.report.runs import Run
from trims_core.schema import ANALYSED, ANSWER_DIFFICULTY, TRAJECTORIES, Table, read_table

if TYPE_CHECKING:
    from trims_core.store import Artifact

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Analysed:
    """One model's answers; problems in the order of their ids, as in the cell."""

    cell: Cell
    artifact: Artifact
    name: str
    """The model's in the artifact; beside other runs the cell bears a label."""
    shown: tuple[str, ...] = ()
    """Problems whose trajectories the teacher was shown, of every model."""

    @property
    def method(self) -> str:
        """Its variant, or `untuned`."""
        return method_of(self.cell)

    @cached_property
    def answers(self) -> list[Row]:
        """Of schema.ANALYSED, one per problem of the cell."""
        found = {row["sample_id"]: row for row in self._rows("answers", "analysed", ANALYSED)}
        return [found[name] for name in self.cell.sample_ids]

    @cached_property
    def difficulties(self) -> dict[str, Row]:
        """Of schema.ANSWER_DIFFICULTY, by problem: of those shown."""
        found = self.scored()
        return {name: found[name] for name in self.shown}

    @cached_property
    def states(self) -> dict[str, list[Row]]:
        """Of schema.TRAJECTORIES, by problem: of those shown, the first state first."""
        found: dict[str, list[Row]] = {}
        for row in self._rows("teacher", "trajectories", TRAJECTORIES):
            found.setdefault(row["sample_id"], []).append(row)
        return {name: sorted(found[name], key=lambda row: int(row["step"])) for name in self.shown}

    def scored(self) -> dict[str, Row]:
        """Of schema.ANSWER_DIFFICULTY, by problem: all that this model's unit holds."""
        return {row["sample_id"]: row for row in self._rows("teacher", "difficulty", ANSWER_DIFFICULTY)}

    def _rows(self, kind: str, table_name: str, table: Table) -> list[dict[str, Any]]:
        """Of a table of the model; none where the analysis has no such units."""
        wanted = f"{kind}/{self.cell.task}/{self.name}/{table_name}.parquet"
        if wanted not in self.artifact.manifest.entries:
            return []
        rows: list[dict[str, Any]] = read_table(self.artifact.file(wanted), table).to_pylist()
        return rows


class Analyses:
    """The analyses of a report's runs: of several, those that are like the first one."""

    def __init__(self, runs: Sequence[Run]) -> None:
        found = [(run, run.parents["analysis"]) for run in runs if "analysis" in run.parents]
        self.info: Mapping[str, Any] | None = found[0][1].info if found else None
        """Of the analysis: where it looked, and whom it asked; None: no run has one."""
        self._places: dict[str, tuple[Artifact, str]] = {}
        for run, artifact in found:
            if about(artifact) == about(found[0][1]):
                for method, models in run.methods().items():
                    for model in models:
                        called = run.called(method) + model.name.removeprefix(method)
                        self._places.setdefault(called, (artifact, model.name))

    def of(self, cell: Cell) -> Analysed | None:
        """What it found about a cell; None where it did not look."""
        if self.info is None or (cell.cache, cell.threshold) != (self.info["cache"], self.info["threshold"]):
            return None
        place = self._places.get(cell.model)
        return None if place is None else Analysed(cell, *place)


def about(analysis: Artifact) -> dict[str, Any]:
    """What analyses that are shown beside each other have in common: point and teacher."""
    return {name: analysis.info[name] for name in ("rule", "cache", "threshold", "teacher")}


def analysed_cells(analyses: Analyses, cells: Sequence[Cell]) -> list[Analysed]:
    """Those of the cells that were looked at, in their order."""
    found = [model for model in map(analyses.of, cells) if model is not None]
    if not found:
        return []
    shared = set(found[0].cell.sample_ids).intersection(*(model.scored() for model in found))
    return [replace(model, shown=tuple(sorted(shared))) for model in found]


def by_method(models: Sequence[Analysed]) -> dict[str, dict[int | None, Analysed]]:
    """Method → seed → model; an untrained one under None."""
    found: dict[str, dict[int | None, Analysed]] = {}
    for model in models:
        found.setdefault(model.method, {})[model.cell.seed] = model
    return found
