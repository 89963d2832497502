"""The grades of one model: the verdict on every sample of its sweep.

A unit holds what one grader says of one unit of the sweep. Nothing is decoded here: another gold answer or a
corrected grader gives new grades for the same samples, one more grader only its own.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from trims_core._faults import fault_point
from trims_core.benchmarks import Grader, graders_of, load_tasks, task_digests
from trims_core.benchmarks.graders import VERDICTS
from trims_core.config import TrimsConfig
from trims_core.errors import SweepError
from trims_core.fingerprint import Digests, sha256_json
from trims_core.grades.cells import n_ungraded, summarise, table, text
from trims_core.grades.grading import tell_failures
from trims_core.schema import GRADES, SAMPLES, read_table, write_table
from trims_core.sections import OPERATIONAL, Name, Section
from trims_core.stage import Make, Outcome, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord
from trims_core.sweep_sections import TaskConfig

logger = logging.getLogger(__name__)

SAMPLES_FILE: Final = "samples.parquet"
TABLE_FILE: Final = "grades.parquet"


class GradesSettings(Section):
    """All that grading reads."""

    tasks: dict[Name, TaskConfig]
    unsafe_no_sandbox: Annotated[bool, OPERATIONAL] = False
    """In keys by the graders' names."""
    layout: int = 2
    """Raised when the artifact's units or cells.json are arranged otherwise."""


@dataclass(frozen=True)
class Chunk:
    """One unit of the sweep, for one grader."""

    samples: Path
    grader: Grader
    golds: Mapping[str, str]
    """Problem id → right answer, of the whole task."""


def settings(config: TrimsConfig) -> GradesSettings:
    """The sweep's tasks."""
    return GradesSettings(tasks=config.sweep.tasks, unsafe_no_sandbox=config.sweep.unsafe_no_sandbox)


def inputs(chosen: GradesSettings, digests: Digests) -> dict[str, str]:
    """Each task's rows, and names and versions of its graders, the main one first."""
    graders = {f"grader.{name}": ", ".join(keys) for name, keys in _keys(chosen).items()}
    return {**task_digests(chosen.tasks, digests), **graders}


def units(work: Work) -> list[Unit]:
    """One per unit of the sweep and grader, `demo-t0.9/0000/last_answer_sentence`: samples, and the right
    answers to them. What the sweep decoded for its check is not graded.

    Raises:
        SweepError: a sample of a problem that its task does not have.
        InputError, ConfigError: problems that cannot be read.
    """
    chosen: GradesSettings = work.settings
    sweep = work.parents["sweep"]
    tasks = load_tasks(chosen.tasks)
    golds = {task: {problem.id: problem.gold for problem in problems} for task, problems in tasks.items()}
    task_of = {name: row["task"] for row in _cells(work) for name in row["units"]}
    found = []
    for unit in sweep.units:
        if unit.name not in task_of:
            continue
        task = task_of[unit.name]
        samples = sweep.file(f"{unit.name}/{SAMPLES_FILE}")
        right = _golds_of(samples, golds[task], task)
        made_from = {"samples": unit.content_digest, "golds": sha256_json(right)}
        for grader in graders_of(chosen.tasks[task], unsafe=chosen.unsafe_no_sandbox):
            source = Chunk(samples, grader, golds[task])
            found.append(Unit(f"{unit.name}/{grader.name}", {"grader": grader.key}, made_from, source))
    return found


@contextmanager
def maker(work: Work, waiting: Sequence[Unit], done: Sequence[UnitRecord]) -> Iterator[Make]:
    """Grades chunks; one that its grader stumbles over is written all the same."""
    n_done, n_all = len(done), len(done) + len(waiting)

    def make(unit: Unit, attempt: Attempt) -> Made:
        nonlocal n_done
        chunk: Chunk = unit.source
        samples = read_table(chunk.samples, SAMPLES).select(["sample_id", "text"]).to_pydict()
        ids = samples["sample_id"]
        golds = [chunk.golds[name] for name in ids]
        grades = chunk.grader.grades(samples["text"], golds)
        columns = {
            "sample_id": ids,
            "grader": [chunk.grader.name] * len(ids),
            "verdict": [grade.verdict for grade in grades],
            "extracted": [grade.extracted for grade in grades],
            "gold": golds,
        }
        about = {**unit.settings, **unit.inputs}
        n_rows = write_table(attempt.path / TABLE_FILE, GRADES, columns, about)
        tell_failures(f"{work.node_id}, {unit.name}", unit.settings["grader"], ids, grades)
        fault_point("grades.before_record")
        n_done += 1
        work.progress(n_done, n_all, f"graded {unit.name}")
        counted = Counter(grade.verdict for grade in grades)
        notes: dict[str, Any] = {verdict: counted[verdict] for verdict in VERDICTS}
        if shares := [grade.share for grade in grades if grade.share is not None]:
            notes["parts"] = [sum(share[0] for share in shares), sum(share[1] for share in shares)]
        return Made({TABLE_FILE: n_rows}, notes)

    yield make


def finish(work: Work, done: Mapping[str, UnitRecord]) -> Outcome:
    """cells.json: the sweep's lines with accuracies and verdicts."""
    chosen: GradesSettings = work.settings
    graders = _graders(chosen)
    summaries = []
    for row in _cells(work):
        graded = {
            grader.key: [done[f"{name}/{grader.name}"].notes for name in row["units"]]
            for grader in graders[row["task"]]
        }
        floors = {grader.key: grader.floors for grader in graders[row["task"]] if grader.floors}
        summaries.append(summarise(row, graded, floors))
    for row in summaries:
        logger.info("%s: %s", work.node_id, text(row))
    fault_point("grades.before_summary")
    (work.folder / "cells.json").write_text(json.dumps(summaries, indent=1), encoding="utf-8")
    counts = {
        "n_cells": len(summaries),
        "n_samples": sum(row["n"] for row in summaries),
        "n_correct": sum(row["n_correct"] for row in summaries),
        "n_ungraded": sum(n_ungraded(row) for row in summaries),
    }
    info = {"graders": _keys(chosen)}
    seed = work.parents["sweep"].manifest.seed
    files = {"cells.json": None}
    return Outcome(counts, info, _card(info["graders"], counts, summaries), seed, files, aside=tuple(files))


def _graders(chosen: GradesSettings) -> dict[str, tuple[Grader, ...]]:
    return {name: graders_of(task, unsafe=chosen.unsafe_no_sandbox) for name, task in chosen.tasks.items()}


def _keys(chosen: GradesSettings) -> dict[str, list[str]]:
    """`gsm8k_number 1`, …: names and versions of each task's graders."""
    return {task: [grader.key for grader in graders] for task, graders in _graders(chosen).items()}


def _cells(work: Work) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(work.parents["sweep"].file("cells.json").read_bytes())
    return found


def _golds_of(samples: Path, golds: Mapping[str, str], task: str) -> list[str]:
    """The right answers to a chunk's samples, in their order."""
    import pyarrow.parquet as pq

    ids: list[str] = pq.read_table(samples, columns=["sample_id"])["sample_id"].to_pylist()
    unknown = [name for name in ids if name not in golds]
    if unknown:
        raise SweepError(
            f"{samples}: samples of problems that task {task} does not have ({', '.join(unknown[:5])});"
            " expected the same problems. Redo it with --refresh sweep"
        )
    return [golds[name] for name in ids]


def _card(
    graders: Mapping[str, Sequence[str]], counts: Mapping[str, int], summaries: Sequence[Mapping[str, Any]]
) -> str:
    named = "; ".join(f"{task} by `{'`, `'.join(keys)}`" for task, keys in graders.items())
    failed = counts["n_ungraded"]
    about = (
        f"Graded: {named}. The first one is meant where none is named. An answer is right or not right; of"
        f" all {counts['n_samples']} samples {failed}"
    )
    about += " could not be graded (the grader raised or timed out) and count as not right."
    return f"{about}\n\n{table(summaries)}\n"
