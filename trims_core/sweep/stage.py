"""The sweep stage of one model: every cell of the grid decoded and stored sample by sample, ungraded.

A unit is a cell and a chunk of consecutive problems. Its key holds what decoding reads and nothing else: one
more threshold, task or problem decodes only what is new; another gold answer, grader or name of the variant
decodes nothing. A crash loses at most the chunk in flight. cells.json is written last, from what units noted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trims_core._faults import fault_point
from trims_core.benchmarks import Problem, load_tasks, problems_digest, task_digests
from trims_core.chat_template import template_inputs
from trims_core.errors import SweepError
from trims_core.fingerprint import Digests
from trims_core.points import MEANINGS
from trims_core.schema import SAMPLES, TIMES, write_table
from trims_core.stage import Make, Outcome, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord
from trims_core.sweep.cells import Cell, chunk_notes, grid, summarise, table
from trims_core.sweep.checks import ALONE, check_of, latency_of
from trims_core.sweep.settings import CellSettings, SweepSettings, cell_settings, settings
from trims_core.sweep_sections import TaskDecoding
from trims_core.trained import tuned_inputs, tuned_student

if TYPE_CHECKING:
    from trims_core.decoding.runner import Runner
    from trims_core.decoding.sampling import Sampling

VERSION: Final = 3
CHUNK: Final = 200
"""Problems per unit: what a crash may cost, and the grain in which `limit` grows without decoding again."""
TABLE_FILE: Final = "samples.parquet"
CHECK: Final = "check"
TIMES_FILE: Final = "times.parquet"
"""Apart from the samples, which are the same whenever they are decoded."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive problems of a cell, or those of its check."""

    cell: Cell
    problems: Sequence[Problem]
    decoding: CellSettings


def inputs(chosen: SweepSettings, digests: Digests) -> dict[str, str]:
    """The student's files, its template file, and each task's rows."""
    student = digests.checkpoint(chosen.student.model, chosen.student.revision)
    template = template_inputs(chosen.student, digests)
    return {"student": student, **template, **task_digests(chosen.tasks, digests)}


def units(work: Work, _facts: None) -> list[Unit]:
    """Cell by cell, one per chunk of at most CHUNK problems: `demo-t0.9-dual/0000`.

    Raises:
        InputError, ConfigError: problems that cannot be read.
    """
    chosen: SweepSettings = work.settings
    tasks = load_tasks(chosen.tasks)
    model = tuned_inputs(work.inputs, work.parents.get("train"))
    chunks = {
        task: [(start, problems[start : start + CHUNK]) for start in range(0, len(problems), CHUNK)]
        for task, problems in tasks.items()
    }
    digests = {task: [problems_digest(problems) for _, problems in found] for task, found in chunks.items()}
    found = []
    for cell in grid(chosen):
        for number, (start, problems) in enumerate(chunks[cell.task]):
            decoding = cell_settings(chosen, cell.task, cell.cache, cell.threshold, start)
            found.append(
                Unit(
                    f"{cell.name}/{number:04d}",
                    decoding.result_fields(),
                    {**model, "problems": digests[cell.task][number]},
                    Chunk(cell, problems, decoding),
                )
            )
        if _is_checked(cell, chosen):
            problems = tasks[cell.task][: chosen.check_problems]
            decoding = cell_settings(chosen, cell.task, cell.cache, cell.threshold)
            decoding = decoding.model_copy(update={"alone": True, "batch_size": ALONE})
            inputs = {**model, "problems": problems_digest(problems)}
            alone = Chunk(cell, problems, decoding)
            found.append(Unit(f"{cell.name}/{CHECK}", decoding.result_fields(), inputs, alone))
    return found


@contextmanager
def maker(work: Work, _facts: None, waiting: Sequence[Unit], done: Sequence[UnitRecord]) -> Iterator[Make]:
    """Loads the student and decodes chunks.

    Raises:
        ConfigError: settings that no decoding is defined for (before the student is loaded), tokens the
            student does not have, or a prompt that does not fit (before anything is decoded).
        SweepError: decoding failed; names the cell.
    """
    from trims_core.decoding.conditions import conditions_of
    from trims_core.decoding.progress import DecodingProgress
    from trims_core.decoding.runner import load_runner
    from trims_core.sweep.rules import check_settings, decode_settings

    chosen: SweepSettings = work.settings
    check_settings(chosen)
    n_done, n_waiting = (
        sum(record.notes["n"] for record in done),
        sum(len(u.source.problems) for u in waiting),
    )
    tell = DecodingProgress(work.node_id, work.progress, n_done, n_waiting)
    runner = load_runner(*tuned_student(chosen.student, work.parents.get("train")), None)
    machine = conditions_of(runner.student)
    samplings, prompts = _samplings(waiting, runner), _prompts(waiting, runner)

    def make(unit: Unit, attempt: Attempt) -> Made:
        fault_point("sweep.before_chunk")
        chunk: Chunk = unit.source
        first, tell_step = chunk.decoding.first_number, tell.of(chunk.cell.text())
        asked = prompts[chunk.cell.task, unit.inputs["problems"]]

        def on_step(done: int, total: int) -> None:
            fault_point("sweep.inside_chunk")
            tell_step(done, total)

        try:
            answers = runner.answer(
                asked,
                decode_settings(chunk.decoding, samplings[chunk.cell.task]),
                on_step,
                range(first, first + len(chunk.problems)),
                workers=1 if chunk.decoding.alone else None,
            )
        except SweepError as error:
            raise SweepError(f"cell {chunk.cell.text()}: {error}") from error
        columns, conditions = {**_asked(chunk), **answers.columns()}, _conditions(chunk, runner)
        about = _provenance(unit, conditions)
        n_rows = write_table(attempt.path / TABLE_FILE, SAMPLES, columns, about)
        write_table(attempt.path / TIMES_FILE, TIMES, columns, about)
        fault_point("sweep.before_record")
        notes = {
            **chunk_notes(columns, answers.seconds, [len(ids) for ids in asked]),
            **conditions,
            **machine,
        }
        tell.finished(chunk.cell.text(), notes)
        return Made({TABLE_FILE: n_rows, TIMES_FILE: n_rows}, notes, aside=(TIMES_FILE,))

    yield make


def _samplings(waiting: Sequence[Unit], runner: Runner) -> dict[str, Sampling]:
    """How each task draws tokens. Raises: ConfigError for tokens that the student does not have."""
    from trims_core.decoding.from_settings import sampling_for

    chosen = {unit.source.cell.task: unit.source.decoding.sampling for unit in waiting}
    return {task: sampling_for(one, runner.student, f"sweep, task {task}") for task, one in chosen.items()}


def _prompts(waiting: Sequence[Unit], runner: Runner) -> dict[tuple[str, str], list[list[int]]]:
    """Token ids by task and problems: two tasks may ask the same behind other system prompts, on other
    canvases. Raises: ConfigError for a prompt that does not fit."""
    from trims_core.decoding.runner import prompts_of

    found: dict[tuple[str, str], list[list[int]]] = {}
    for unit in waiting:
        chunk: Chunk = unit.source
        key, decoding = (chunk.cell.task, unit.inputs["problems"]), chunk.decoding
        if key not in found:
            wanted = prompts_of(chunk.problems, decoding.system_prompt)
            found[key] = runner.render(wanted, decoding.gen_length, f"task {chunk.cell.task}")
    return found


def _asked(chunk: Chunk) -> dict[str, Any]:
    """The columns of a chunk's samples that its answers do not tell."""
    n = len(chunk.problems)
    return {
        "cache": [chunk.cell.cache] * n,
        "threshold": [chunk.cell.threshold] * n,
        "sample_id": [problem.id for problem in chunk.problems],
        "prompt": [problem.messages[-1]["content"] for problem in chunk.problems],
    }


def _conditions(chunk: Chunk, runner: Runner) -> dict[str, Any]:
    """Under what load a chunk is decoded, and how the adapter is applied where there is one."""
    load = {
        "batch_size": chunk.decoding.batch_size,
        "workers": 1 if chunk.decoding.alone else runner.workers,
    }
    return load if runner.merge is None else {**load, "adapter": str(runner.merge)}


def finish(work: Work, _facts: None, done: Mapping[str, UnitRecord]) -> Outcome:
    """cells.json: per cell its point, counts, speed, and the units its samples are in."""
    chosen: SweepSettings = work.settings
    cells = grid(chosen)
    of_cell: dict[str, dict[str, UnitRecord]] = {cell.name: {} for cell in cells}
    checks: dict[str, UnitRecord] = {}
    for name, record in done.items():
        cell_name, _, part = name.rpartition("/")
        if part == CHECK:
            checks[cell_name] = record
        else:
            of_cell[cell_name][name] = record
    summaries = []
    for cell in cells:
        chunks = of_cell[cell.name]
        about: dict[str, Any] = {"stop_at_end": chosen.decodings[cell.task].stop_at_end}
        if cell.name in checks:
            about["check"] = check_of(checks[cell.name], list(chunks.values()))
        notes = {name: record.notes for name, record in chunks.items()}
        row = summarise(cell, notes, about)
        summaries.append(row | _latency(row, chunks))
    fault_point("sweep.before_summary")
    (work.folder / "cells.json").write_text(json.dumps(summaries, indent=1), encoding="utf-8")
    n_samples = sum(row["n"] for row in summaries)
    counts = {
        "n_cells": len(cells),
        "n_problems": n_samples // (len(chosen.caches) * (1 + len(chosen.thresholds))),
        "n_samples": n_samples,
        "n_unfinished": sum(row["n_unfinished"] for row in summaries),
    }
    info = {
        "student": chosen.student.model,
        "decoding_seconds": sum(row["seconds"] for row in summaries),
        "tokens": sum(row["tokens"] for row in summaries),
        "forwards": sum(row["forwards"] for row in summaries),
    }
    seed = work.parents["train"].manifest.seed if "train" in work.parents else None
    files = {"cells.json": None}
    adapters = sorted({record.notes["adapter"] for record in done.values() if "adapter" in record.notes})
    return Outcome(counts, info, _card(chosen, summaries, adapters), seed, files, aside=tuple(files))


SPEC: Final = StageSpec(
    "sweep",
    VERSION,
    settings=settings,
    inputs=inputs,
    units=units,
    maker=maker,
    finish=finish,
    apart=True,
)


def _is_checked(cell: Cell, chosen: SweepSettings) -> bool:
    first = (chosen.caches[0], chosen.thresholds[0])
    return bool(chosen.check_problems) and (cell.cache, cell.threshold) == first


def _latency(row: Mapping[str, Any], chunks: Mapping[str, UnitRecord]) -> dict[str, Any]:
    """Of a cell that was decoded one at a time."""
    alone = row["batch_sizes"] == [ALONE] and row["workers"] == [1]
    return {"latency": latency_of(list(chunks.values()))} if alone else {}


def _provenance(unit: Unit, conditions: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "inputs": dict(unit.inputs),
        **unit.settings,
        "counting": "tokens up to and including the first end token; forwards the sequence took part in",
        **conditions,
    }


def _card(chosen: SweepSettings, summaries: Sequence[Mapping[str, Any]], adapters: Sequence[str]) -> str:
    batches = sorted({size for row in summaries for size in row["batch_sizes"]})
    workers = sorted({n for row in summaries for n in row["workers"]})
    about = "".join(_task_line(task, one) for task, one in chosen.decodings.items())
    about += (
        f"A forward reveals {MEANINGS[chosen.rule].says} (rule `{chosen.rule}`). Caches prefix and"
        f" dual approximate. Tokens/s is decoding time alone, {_listed(batches)} sequences per batch,"
        f" {_listed(workers)} thread(s). Tokens are counted up to and including the first end token."
        " Accuracies are in the grades."
    )
    about += "".join(f"\n\n{text[0].upper()}{text[1:]}." for text in adapters)
    return f"{about}\n\n{table(summaries)}\n"


def _task_line(task: str, decoding: TaskDecoding) -> str:
    stop = "stops at the end token" if decoding.stop_at_end else "fills the whole canvas"
    return (
        f"{task}: canvases of {decoding.gen_length} positions in blocks of {decoding.block_length}; decoding"
        f" {stop}. "
    )


def _listed(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))
