"""The sweep's cells, read from the artifacts and checked before anything is drawn.

A cell is one model on one task with one cache at one threshold. All cells of a task must be there and must
hold the same problems, because methods are compared problem by problem.

Shapes: N problems of a task, ordered by sample id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from trims_core.config import TrimsConfig
from trims_core.errors import ReportError
from trims_core.points import RuleName, point_text
from trims_core.schema import SAMPLES, read_table

if TYPE_CHECKING:
    from trims_core.store import Artifact

CellKey = tuple[str, str, str, float | None]
"""Model, task, cache, threshold (None: one token per forward)."""

_SHOWN_AT_MOST: Final = 12
_COUNTED: Final = [
    "model",
    "variant",
    "seed",
    "task",
    "cache",
    "threshold",
    "sample_id",
    "correct",
    "finished",
    "n_tokens",
    "n_forwards",
]


@dataclass(frozen=True)
class Cell:
    """One model on one task with one cache at one threshold; arrays are per problem, ordered by sample id."""

    model: str
    variant: str | None
    seed: int | None
    task: str
    cache: str
    rule: RuleName
    threshold: float | None
    sample_ids: tuple[str, ...]
    correct_N: npt.NDArray[np.float64]
    tokens_N: npt.NDArray[np.float64]
    forwards_N: npt.NDArray[np.float64]
    finished_N: npt.NDArray[np.bool_]
    seconds: float
    tokens_per_second: float
    batch_size: int
    workers: int
    stop_at_end: bool
    path: Path

    @property
    def key(self) -> CellKey:
        """Model, task, cache and threshold."""
        return (self.model, self.task, self.cache, self.threshold)

    @property
    def n(self) -> int:
        """Problems."""
        return len(self.sample_ids)

    @property
    def n_correct(self) -> int:
        """Problems answered right."""
        return int(self.correct_N.sum())

    @property
    def n_unfinished(self) -> int:
        """Answers without an end token inside the canvas."""
        return int((~self.finished_N).sum())

    @property
    def tpf(self) -> float:
        """Tokens per forward: all tokens of the task over all forwards."""
        return float(self.tokens_N.sum() / self.forwards_N.sum())


@dataclass(frozen=True)
class Coverage:
    """How many of the configured cells there are, and what had to be left out (only in a partial report)."""

    n_expected: int
    n_found: int
    missing: tuple[str, ...]
    reduced: tuple[str, ...]


def method_of(cell: Cell) -> str:
    """The method a cell belongs to: its variant, or `untuned`."""
    return "untuned" if cell.variant is None else cell.variant


def describe(key: CellKey, rule: RuleName) -> str:
    """A cell's name for messages: `trims-s0 on demo at threshold 0.9 with cache dual`."""
    model, task, cache, threshold = key
    with_cache = "" if cache == "none" else f" with cache {cache}"
    return f"{model} on {task} at {point_text(rule, threshold)}{with_cache}"


def expected_keys(config: TrimsConfig) -> list[CellKey]:
    """Every cell the settings ask for, in the order of the settings."""
    sweep = config.sweep
    models = [("untuned", sweep.caches(tuned=False))] if sweep.untuned else []
    models += [
        (f"{variant}-s{seed}", sweep.caches(tuned=True))
        for variant in config.train.variants
        for seed in dict.fromkeys(config.train.seeds)
    ]
    thresholds = (None, *dict.fromkeys(sweep.thresholds))
    return [
        (model, task, cache, threshold)
        for model, caches in models
        for task in sweep.tasks
        for cache in caches
        for threshold in thresholds
    ]


def load_cells(
    config: TrimsConfig, sweeps: Iterable[Artifact], *, partial: bool = False
) -> tuple[list[Cell], Coverage]:
    """All cells, in the order of the settings, with equal problems in all cells of a task.

    Args:
        partial: leave out what is missing instead of refusing, and keep only the problems that all cells
            of a task share; the coverage then says what was left out.

    Raises:
        ReportError: cells are missing, hold other problems than the rest of their task, or contradict
            their summary in cells.json; the message names them.
    """
    found: dict[CellKey, Cell] = {}
    for artifact in sweeps:
        for cell in read_cells(artifact):
            found[cell.key] = cell
    keys = expected_keys(config)
    missing = [describe(key, config.sweep.rule) for key in keys if key not in found]
    if missing and not partial:
        raise ReportError(
            f"{len(missing)} of {len(keys)} cells are missing: {_some(missing)}; expected every model, task,"
            " cache and threshold of the settings. Redo the sweep with --refresh sweep, or draw what is there"
            " with --set report.partial=true"
        )
    cells = [found[key] for key in keys if key in found]
    if not cells:
        raise ReportError(f"none of the {len(keys)} cells exists; run the sweep first")
    cells, reduced = same_problems(cells, partial=partial)
    return cells, Coverage(len(keys), len(cells), tuple(missing), tuple(reduced))


def read_cells(artifact: Artifact) -> list[Cell]:
    """The cells of one sweep artifact. Raises: ReportError where samples and cells.json contradict."""
    listed = json.loads(artifact.file("cells.json").read_text(encoding="utf-8"))
    summaries = {(row["model"], row["task"], row["cache"], row["threshold"]): row for row in listed}
    cells = []
    for path in artifact.files(prefix="cells/", suffix=".parquet"):
        columns = read_table(path, SAMPLES).select(_COUNTED).to_pydict()
        if not columns["sample_id"]:
            raise ReportError(f"{path}: a cell without problems; expected at least one. Use --refresh sweep")
        key = (columns["model"][0], columns["task"][0], columns["cache"][0], columns["threshold"][0])
        if key not in summaries:
            raise ReportError(f"{path}: the cell {key} is not in cells.json; redo it with --refresh sweep")
        cells.append(_cell(path, columns, summaries.pop(key)))
    if summaries:
        names = [describe(key, row["rule"]) for key, row in summaries.items()]
        raise ReportError(
            f"cells.json lists cells without samples: {_some(names)}; redo it with --refresh sweep"
        )
    return cells


def _cell(path: Path, columns: Mapping[str, Sequence[Any]], summary: Mapping[str, Any]) -> Cell:
    ids = columns["sample_id"]
    order = sorted(range(len(ids)), key=ids.__getitem__)

    def ordered(name: str) -> npt.NDArray[np.float64]:
        return np.asarray(columns[name], dtype=np.float64)[order]

    cell = Cell(
        model=columns["model"][0],
        variant=columns["variant"][0],
        seed=columns["seed"][0],
        task=columns["task"][0],
        cache=columns["cache"][0],
        rule=summary["rule"],
        threshold=columns["threshold"][0],
        sample_ids=tuple(ids[i] for i in order),
        correct_N=ordered("correct"),
        tokens_N=ordered("n_tokens"),
        forwards_N=ordered("n_forwards"),
        finished_N=ordered("finished").astype(bool),
        seconds=float(summary["seconds"]),
        tokens_per_second=float(summary["tokens_per_second"]),
        batch_size=int(summary["batch_size"]),
        workers=int(summary["workers"]),
        stop_at_end=bool(summary["stop_at_end"]),
        path=path,
    )
    _check_summary(cell, summary)
    return cell


def _check_summary(cell: Cell, summary: Mapping[str, Any]) -> None:
    if len(set(cell.sample_ids)) != cell.n:
        raise ReportError(f"{cell.path}: a problem occurs twice; expected each once. Use --refresh sweep")
    counted = {
        "n": cell.n,
        "n_correct": cell.n_correct,
        "tokens": int(cell.tokens_N.sum()),
        "forwards": int(cell.forwards_N.sum()),
        "n_unfinished": cell.n_unfinished,
    }
    wrong = [
        f"{name} {summary[name]} but {value} in the samples"
        for name, value in counted.items()
        if summary[name] != value
    ]
    if wrong:
        raise ReportError(
            f"cells.json, {describe(cell.key, cell.rule)}: {'; '.join(wrong)}. Redo it with --refresh sweep"
        )


def same_problems(cells: Sequence[Cell], *, partial: bool) -> tuple[list[Cell], list[str]]:
    """The cells with equal problems within each task, and what was cut to get there (only if partial).

    Raises:
        ReportError: cells of a task hold other problems than the rest; if partial: none is in all of them.
    """
    reduced = []
    out = []
    for task in dict.fromkeys(cell.task for cell in cells):
        group = [cell for cell in cells if cell.task == task]
        shared = set(group[0].sample_ids).intersection(*(cell.sample_ids for cell in group))
        largest = max(cell.n for cell in group)
        short = [f"{describe(cell.key, cell.rule)} (n = {cell.n})" for cell in group if cell.n < largest]
        if len(shared) == largest:
            out += group
            continue
        if not partial:
            found = _some(short) if short else "equal n, but other sample ids"
            raise ReportError(
                f"task {task}: cells hold different problems: {found}; expected the same {largest} in every"
                " cell. Redo the sweep with --refresh sweep, or compare on the shared problems with"
                " --set report.partial=true"
            )
        if not shared:
            raise ReportError(f"task {task}: no problem is in all cells, so nothing can be compared")
        reduced.append(
            f"{task}: only the {len(shared)} of {largest} problems that all cells share are counted"
        )
        out += [_restrict(cell, shared) for cell in group]
    return out, reduced


def _restrict(cell: Cell, shared: set[str]) -> Cell:
    kept = np.asarray([sample in shared for sample in cell.sample_ids])
    return replace(
        cell,
        sample_ids=tuple(sample for sample in cell.sample_ids if sample in shared),
        correct_N=cell.correct_N[kept],
        tokens_N=cell.tokens_N[kept],
        forwards_N=cell.forwards_N[kept],
        finished_N=cell.finished_N[kept],
    )


def _some(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - _SHOWN_AT_MOST
    return ", ".join(names[:_SHOWN_AT_MOST]) + (f" and {more} more" if more > 0 else "")
