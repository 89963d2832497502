"""The sweep stage of one model: every cell of the grid decoded, graded and stored sample by sample.

A cell is a unit of the journal: a crash loses at most the cell in flight, and the numbers of a resumed sweep
are those of an uninterrupted one (times apart). cells.json is written last, from what each cell noted.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from trims_core._faults import fault_point
from trims_core.benchmarks import get_benchmark
from trims_core.config import TrimsConfig
from trims_core.fingerprint import Digests
from trims_core.graph import Node
from trims_core.points import MEANINGS
from trims_core.schema import SAMPLES, write_table
from trims_core.stage import Outcome, StageSpec, Work, stage_key
from trims_core.store import Artifact, StageKey
from trims_core.sweep.cells import Cell, grid, summarise, table
from trims_core.sweep.runner import Runner, TaskProblems, load_runner

logger = logging.getLogger(__name__)

VERSION: Final = 2
_TELL_EVERY_S: Final = 1.0
_SUMMARY_UNIT: Final = "summary"
_IDENTITY: Final = ("model", "variant", "seed")


def key(config: TrimsConfig, node: Node, parents: Mapping[str, Artifact], digests: Digests) -> StageKey:
    """Depends on the adapter (its parent), the student's files, the problems, and how they are decoded."""
    caches = config.sweep.caches(tuned=_is_tuned(node))
    about_others = ("untuned", "compare_caches")
    fields = {n: value for n, value in config.sweep.result_fields().items() if n not in about_others}
    fields |= {"compare_caches": list(caches[1:])} if caches[1:] else {}
    student = config.student.result_fields()
    fields["student"] = {name: student[name] for name in student if name not in ("model", "revision")}
    fields["system_prompt"] = config.corpus.system_prompt
    fields |= {name: node.params[name] for name in _IDENTITY}
    inputs = {"student": digests.checkpoint(config.student.model, config.student.revision)}
    for name, task in config.sweep.tasks.items():
        source = get_benchmark(task.benchmark).source(task)
        inputs[f"benchmark.{name}"] = digests.dataset(
            source.path, source.hub, source.hub_config, source.split, source.revision
        )
    return stage_key("sweep", VERSION, fields, parents, inputs)


def produce(work: Work) -> Outcome:
    """Writes cells/<task>-t<threshold>[-<cache>].parquet and cells.json.

    Raises:
        ConfigError: settings that no decoding is defined for, or tokens the student does not have.
        SweepError: a cell failed; the message names it, finished cells are kept.
        InputError: problems that cannot be read.
    """
    tasks = _load_tasks(work.config)
    cells = grid(work.config.sweep, tuned=_is_tuned(work.node))
    pending = [cell for cell in cells if not work.staging.is_done(cell.unit)]
    if pending:
        progress = _SweepProgress(work, tasks, cells)
        runner = load_runner(work.config, _adapter(work))
        for cell in pending:
            _run_cell(work, runner, cell, tasks[cell.task], progress)
    summaries = [dict(work.staging.unit(cell.unit)) for cell in cells]
    fault_point("sweep.before_summary")
    (work.staging.path / "cells.json").write_text(json.dumps(summaries, indent=1), encoding="utf-8")
    work.staging.record(_SUMMARY_UNIT, {"cells.json": None})
    n_samples = sum(summary["n"] for summary in summaries)
    counts = {
        "n_cells": len(cells),
        "n_problems": sum(len(task.problems) for task in tasks.values()),
        "n_samples": n_samples,
        "n_correct": sum(summary["n_correct"] for summary in summaries),
    }
    info = {
        "model": work.node.params["model"],
        "decoding_seconds": sum(summary["seconds"] for summary in summaries),
        "tokens": sum(summary["tokens"] for summary in summaries),
        "forwards": sum(summary["forwards"] for summary in summaries),
    }
    return Outcome(counts=counts, info=info, card=_card(work, summaries), seed=work.node.params["seed"])


SPEC: Final = StageSpec(name="sweep", version=VERSION, key=key, produce=produce)


def _is_tuned(node: Node) -> bool:
    return node.params["variant"] is not None


def _load_tasks(config: TrimsConfig) -> dict[str, TaskProblems]:
    tasks = {}
    for name, task in config.sweep.tasks.items():
        benchmark = get_benchmark(task.benchmark)
        tasks[name] = TaskProblems(name, benchmark, benchmark.load(task))
    return tasks


def _adapter(work: Work) -> Any:
    """The folder of the trained adapter; None for the untuned student."""
    if "train" not in work.parents:
        return None
    return work.parents["train"].file("adapter/adapter_config.json").parent


def _run_cell(work: Work, runner: Runner, cell: Cell, task: TaskProblems, progress: _SweepProgress) -> None:
    fault_point("sweep.before_cell")
    result = runner.run(cell, task, progress.of(cell))
    identity = {name: work.node.params[name] for name in _IDENTITY}
    repeated = {name: [value] * len(task.problems) for name, value in identity.items()}
    conditions = {
        "batch_size": work.config.sweep.batch_size,
        "workers": runner.workers,
        "stop_at_end": work.config.sweep.stop_at_end,
    }
    path = work.staging.path / cell.file
    path.parent.mkdir(parents=True, exist_ok=True)
    n_rows = write_table(path, SAMPLES, {**repeated, **result.columns}, _provenance(work, cell, conditions))
    fault_point("sweep.after_samples")
    summary = summarise(cell, identity, result.columns, result.seconds, conditions)
    work.staging.record(cell.unit, {cell.file: n_rows}, summary)
    progress.finished(cell, summary)
    fault_point("sweep.after_cell")


def _provenance(work: Work, cell: Cell, conditions: Mapping[str, Any]) -> dict[str, Any]:
    sweep = work.config.sweep
    return {
        "student": work.config.student.model,
        "inputs": dict(work.staging.key.inputs),
        "dtype": work.config.student.dtype,
        "gen_length": sweep.gen_length,
        "block_length": sweep.block_length,
        "cache": cell.cache,
        "rule": cell.rule,
        "sampling": sweep.sampling.result_fields(),
        "stop_strings": list(sweep.stop_strings),
        "counting": "tokens up to and including the first end token; forwards the sequence took part in",
        **conditions,
    }


class _SweepProgress:
    """Counts sequences over all cells, those kept from an earlier run included, and tells once a second."""

    def __init__(self, work: Work, tasks: Mapping[str, TaskProblems], cells: list[Cell]) -> None:
        self._tell = work.progress
        self._sizes = {cell: len(tasks[cell.task].problems) for cell in cells}
        self._total = sum(self._sizes.values())
        self._done = sum(size for cell, size in self._sizes.items() if work.staging.is_done(cell.unit))
        self._last = 0.0
        self._tell(self._done, self._total, f"loading {work.node.params['model']}")

    def of(self, cell: Cell) -> Any:
        """The callback for one cell's decoding."""

        def on_step(done: int, _total: int) -> None:
            fault_point("sweep.inside_cell")
            now = time.monotonic()
            if now - self._last >= _TELL_EVERY_S:
                self._last = now
                self._tell(self._done + done, self._total, cell.text())

        return on_step

    def finished(self, cell: Cell, summary: Mapping[str, Any]) -> None:
        """Tells a cell's result."""
        self._done += self._sizes[cell]
        note = f"{cell.text()}: {100 * summary['accuracy']:.1f} % at {summary['tpf']:.2f} tokens per forward"
        self._tell(self._done, self._total, note)
        logger.info("%s: %s, %.0f tokens/s", summary["model"], note, summary["tokens_per_second"])


def _card(work: Work, summaries: list[dict[str, Any]]) -> str:
    sweep = work.config.sweep
    stop = "stops at the end token" if sweep.stop_at_end else "fills the whole canvas"
    about = (
        f"Model `{work.node.params['model']}` on canvases of {sweep.gen_length} positions in blocks of"
        f" {sweep.block_length}; decoding {stop}. A forward reveals {MEANINGS[sweep.rule].says} (rule"
        f" `{sweep.rule}`). Caches other than none approximate. Tokens/s is decoding time alone,"
        f" {sweep.batch_size} sequences per batch, {summaries[0]['workers']} thread(s). Tokens are counted up"
        " to and including the first end token."
    )
    return f"{about}\n\n{table(summaries)}\n"
