"""The sweep's cells, read from the artifacts and checked before anything is drawn.

A cell is one model on one task with one cache at one threshold: samples of its sweep joined with their grades
by unit and problem. All cells of a task must be there and must hold the same problems, because methods are
compared problem by problem.

Shapes: N problems of a task, ordered by sample id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from trims_core.benchmarks.graders import UNGRADED
from trims_core.config import TrimsConfig
from trims_core.errors import ReportError
from trims_core.graph import UNTUNED
from trims_core.points import RuleName, point_text
from trims_core.report.graded_sweeps import read_rows, summaries_of
from trims_core.schema import GRADES, SAMPLES

if TYPE_CHECKING:
    from trims_core.report.runs import Run
    from trims_core.store import Artifact

CellKey = tuple[str, str, str, float | None]
"""Model, task, cache, threshold (None: one token per forward)."""

Files = tuple[Path, Path]
"""Samples and their grades."""

_SHOWN_AT_MOST: Final = 12
_COUNTED: Final = ("cache", "threshold", "sample_id", "finished", "n_tokens", "n_forwards")
_ABOUT: Final = ("grader", "graders", "tpf_as", "machines", "check", "latency")
_OF_ALL: Final = ("graders", "tpf_as")
"""Of these, what counts all problems of the cell."""


@dataclass(frozen=True)
class Model:
    """A student that was swept; which one follows from the settings, not from its samples."""

    name: str
    """`untuned`, or `<variant>-s<seed>`: the end of the roles `sweep/<name>` and `grades/<name>`."""
    variant: str | None = None
    seed: int | None = None

    @property
    def method(self) -> str:
        """Its variant, or `untuned`."""
        return UNTUNED if self.variant is None else self.variant


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
    n_ungraded: int
    """Problems on which the grader failed; they are not right."""
    seconds: float
    tokens_per_second: float
    batch_sizes: tuple[int, ...]
    """One, or several where parts were decoded at different times."""
    workers: tuple[int, ...]
    stop_at_end: bool
    files: tuple[Files, ...] = ()
    """Per unit."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else the grades' cells.json says: grader, graders, tpf_as, machines, check, latency."""

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

    @property
    def forwards_per_answer(self) -> float:
        """Forwards that an answer takes part in, on average."""
        return float(self.forwards_N.mean())


@dataclass(frozen=True)
class Coverage:
    """How many of the configured cells there are, and what had to be left out (only in a partial report)."""

    n_expected: int
    n_found: int
    missing: tuple[str, ...]
    reduced: tuple[str, ...]


def method_of(cell: Cell) -> str:
    """The method a cell belongs to: its variant, or `untuned`."""
    return UNTUNED if cell.variant is None else cell.variant


def describe(key: CellKey, rule: RuleName) -> str:
    """A cell's name for messages: `trims-s0 on demo at threshold 0.9 with cache dual`."""
    model, task, cache, threshold = key
    with_cache = "" if cache == "none" else f" with cache {cache}"
    return f"{model} on {task} at {point_text(rule, threshold)}{with_cache}"


def models_of(config: TrimsConfig) -> list[Model]:
    """The models the settings ask for, in their order."""
    untuned = [Model(UNTUNED)] if config.sweep.untuned else []
    return untuned + [
        Model(f"{variant}-s{seed}", variant, seed)
        for variant in config.train.variants
        for seed in dict.fromkeys(config.train.seeds)
    ]


def models_by_method(config: TrimsConfig) -> dict[str, list[Model]]:
    """Method → its models, in the order of the settings."""
    found: dict[str, list[Model]] = {}
    for model in models_of(config):
        found.setdefault(model.method, []).append(model)
    return found


def expected_keys(config: TrimsConfig) -> list[CellKey]:
    """Every cell the settings ask for, in the order of the settings."""
    sweep = config.sweep
    return [
        (model.name, task, cache, threshold)
        for model in models_of(config)
        for task in sweep.tasks
        for cache in sweep.caches(tuned=model.variant is not None)
        for threshold in (None, *dict.fromkeys(sweep.thresholds))
    ]


def load_cells(runs: Sequence[Run], *, partial: bool = False) -> tuple[list[Cell], Coverage]:
    """All cells, in the order of the runs and their settings, with equal problems in all cells of a task.

    Args:
        runs: of their artifacts those named sweep/<model> and grades/<model> are read. A sweep of version 0.1
            needs no grades.
        partial: leave out what is missing instead of refusing, and keep only the problems that all cells
            of a task share; the coverage then says what was left out.

    Raises:
        ReportError: cells are missing, hold other problems than the rest of their task, or contradict
            their summary in cells.json; the message names them.
    """
    cells: list[Cell] = []
    missing: list[str] = []
    n_expected = 0
    for run in runs:
        found, keys = _cells_of(run)
        cells += [found[key] for key in keys if key in found]
        missing += [describe(key, run.config.sweep.rule) for key in keys if key not in found]
        n_expected += len(keys)
    if missing and not partial:
        raise ReportError(
            f"{len(missing)} of {n_expected} cells are missing: {_some(missing)}; expected every model, task,"
            " cache and threshold of the settings. Redo the sweep with --refresh sweep, or draw what is there"
            " with --set report.partial=true"
        )
    if not cells:
        raise ReportError(f"none of the {n_expected} cells exists; run the sweep first")
    cells, reduced = same_problems(cells, partial=partial)
    return cells, Coverage(n_expected, len(cells), tuple(missing), tuple(reduced))


def _cells_of(run: Run) -> tuple[dict[CellKey, Cell], list[CellKey]]:
    """A run's cells and the keys of those that its settings ask for, under the names that its models have."""
    found: dict[CellKey, Cell] = {}
    shown = {model.name: named for model in models_of(run.config) if (named := run.shown(model))}
    for name, model in shown.items():
        sweep, grades = (run.parents.get(f"{stage}/{name}") for stage in ("sweep", "grades"))
        if sweep is not None and sweep.manifest.is_old:
            grades = sweep
        if sweep is not None and grades is not None:
            found |= {cell.key: cell for cell in read_cells(model, sweep, grades)}
    keys = [(shown[key[0]].name, *key[1:]) for key in expected_keys(run.config) if key[0] in shown]
    return found, keys


def read_cells(model: Model, sweep: Artifact, grades: Artifact) -> list[Cell]:
    """The cells of one model.

    Args:
        grades: those of the sweep; of one of version 0.1 the sweep itself.
    Raises:
        ReportError: samples, grades and cells.json contradict each other.
    """
    if sweep.manifest.is_old:
        summaries = summaries_of(sweep)
        return [_cell(model, row, [(sweep.file(name),) * 2 for name in row["units"]]) for row in summaries]
    rows = json.loads(grades.file("cells.json").read_text(encoding="utf-8"))
    listed = {name for row in rows for name in row["units"]}
    graded = {f"{n}/{one.partition(' ')[0]}" for row in rows for n in row["units"] for one in row["graders"]}
    decoded = {unit.name for unit in sweep.units if not unit.name.endswith("/check")}
    found = {unit.name for unit in grades.units}
    for artifact, other in ((sweep, listed ^ decoded), (grades, graded ^ found)):
        if other:
            raise ReportError(
                f"{artifact.path}: its units are not those that the grades' cells.json lists"
                f" ({_some(sorted(other))}); expected the same. Redo it with --refresh grades"
            )
    return [
        _cell(model, row, [_files(name, row["grader"], sweep, grades) for name in row["units"]])
        for row in rows
    ]


def _files(unit: str, grader: str, sweep: Artifact, grades: Artifact) -> Files:
    """Args: grader: name and version."""
    name = grader.partition(" ")[0]
    return sweep.file(f"{unit}/samples.parquet"), grades.file(f"{unit}/{name}/grades.parquet")


def _cell(model: Model, summary: Mapping[str, Any], files: Sequence[Files]) -> Cell:
    columns: dict[str, list[Any]] = {name: [] for name in (*_COUNTED, "verdict")}
    for samples, graded in files:
        for name, values in _joined(samples, graded).items():
            columns[name] += values
    key = (model.name, summary["task"], summary["cache"], summary["threshold"])
    ids = columns["sample_id"]
    if not ids:
        raise ReportError(
            f"{describe(key, summary['rule'])}: a cell without problems; expected at least one. Use --refresh"
            " sweep"
        )
    order = sorted(range(len(ids)), key=ids.__getitem__)

    def ordered(values: Sequence[Any]) -> npt.NDArray[np.float64]:
        return np.asarray(values, dtype=np.float64)[order]

    cell = Cell(
        model=model.name,
        variant=model.variant,
        seed=model.seed,
        task=summary["task"],
        cache=summary["cache"],
        rule=summary["rule"],
        threshold=summary["threshold"],
        sample_ids=tuple(ids[i] for i in order),
        correct_N=ordered([verdict == "right" for verdict in columns["verdict"]]),
        tokens_N=ordered(columns["n_tokens"]),
        forwards_N=ordered(columns["n_forwards"]),
        finished_N=ordered(columns["finished"]).astype(bool),
        n_ungraded=sum(verdict in UNGRADED for verdict in columns["verdict"]),
        seconds=float(summary["seconds"]),
        tokens_per_second=float(summary["tokens_per_second"]),
        batch_sizes=tuple(summary["batch_sizes"]),
        workers=tuple(summary["workers"]),
        stop_at_end=bool(summary["stop_at_end"]),
        files=tuple(files),
        about={name: summary[name] for name in _ABOUT if name in summary},
    )
    points = set(zip(columns["cache"], columns["threshold"], strict=True))
    if points != {(cell.cache, cell.threshold)}:
        raise ReportError(
            f"{files[0][0]}: samples of {points}; expected cache {cell.cache} and threshold {cell.threshold}"
            " as in cells.json. Redo it with --refresh sweep"
        )
    _check_summary(cell, summary)
    return cell


def _joined(samples: Path, graded: Path) -> dict[str, list[Any]]:
    """The samples of a unit with their verdicts, by problem. Raises: ReportError: not one grade each."""
    columns: dict[str, list[Any]] = read_rows(samples, SAMPLES).select(_COUNTED).to_pydict()
    grades = read_rows(graded, GRADES).select(["sample_id", "verdict"]).to_pydict()
    verdicts = dict(zip(grades["sample_id"], grades["verdict"], strict=True))
    ids = columns["sample_id"]
    if len(set(ids)) < len(ids):
        raise ReportError(f"{samples}: a problem occurs twice; expected each once. Use --refresh sweep")
    if verdicts.keys() != set(ids) or len(grades["sample_id"]) != len(ids):
        raise ReportError(
            f"{graded}: {len(grades['sample_id'])} grades for {len(ids)} samples, or of other problems;"
            " expected one each. Redo it with --refresh grades"
        )
    return {**columns, "verdict": [verdicts[name] for name in ids]}


def _check_summary(cell: Cell, summary: Mapping[str, Any]) -> None:
    if len(set(cell.sample_ids)) != cell.n:
        where = describe(cell.key, cell.rule)
        raise ReportError(f"{where}: a problem occurs twice; expected each once. Use --refresh sweep")
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
        about={name: value for name, value in cell.about.items() if name not in _OF_ALL},
    )


def _some(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - _SHOWN_AT_MOST
    return ", ".join(names[:_SHOWN_AT_MOST]) + (f" and {more} more" if more > 0 else "")
