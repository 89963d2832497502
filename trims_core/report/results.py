"""Everything the report shows, as one JSON-able dict: what results.json holds and the page is made of.

Fractions are fractions (0.73), AUP is on the percent scale (its definition), times are seconds. Every
accuracy stands beside its n. No clock and no absolute path: the same artifacts give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, get_args

from trims_core.config import ReportConfig, TrimsConfig
from trims_core.curves import wilson_interval
from trims_core.errors import ReportError
from trims_core.points import CacheName
from trims_core.report.analysis import analysis_of
from trims_core.report.caveats import caveats_of
from trims_core.report.cells import Cell, Coverage, load_cells, method_of
from trims_core.report.comparison import (
    Pair,
    compare_all,
    methods_of,
    numbers_of,
    pairs_to_compare,
    points_of,
)
from trims_core.report.costs import costs_of
from trims_core.report.examples import Decodes, answers_side_by_side, corpus_examples
from trims_core.report.histogram import histogram_of
from trims_core.report.intervals import rounded
from trims_core.report.levels import choose_levels, common_forwards, ranges_of
from trims_core.report.losses import losses_of
from trims_core.report.protocols import check_machines, protocol_of
from trims_core.report.resampling import resample_counts, resample_methods
from trims_core.report.rounds import rounds_of, trained_once

if TYPE_CHECKING:
    from trims_core.store import Artifact

RESULTS_VERSION: Final = 8


def collect(
    config: TrimsConfig,
    parents: Mapping[str, Artifact],
    tokenizer: Decodes,
    *,
    partial: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """All results of a run, ready for JSON.

    Args:
        parents: artifacts by role: those of the run's graph. Without buckets there is no histogram, and
            examples have no colours.
        partial: draw what is there although cells are missing; the results then say n of N.

    Raises:
        ReportError: cells are missing or hold different problems (unless partial), or contradict cells.json.
    """
    progress("reading the cells")
    cells, coverage = load_cells(config, parents, partial=partial)
    mixed = check_machines(cells, mixed=config.report.mixed)
    methods = methods_of(config)
    tasks = {}
    corpus, buckets = parents["corpus"], parents.get("buckets")
    histogram = None if buckets is None else histogram_of(buckets)
    for task in config.sweep.tasks:
        of_task = [cell for cell in cells if cell.task == task]
        if of_task:
            progress(f"resampling the problems of {task}")
            tasks[task] = _task_results(config, task, of_task, methods, parents.get("analysis"), histogram)
    progress("examples, losses and times")
    rows = (
        parents["tokens"].files("tokens-", "/tokens.parquet")
        if buckets is None
        else buckets.files("buckets-", ".parquet")
    )
    results = {
        "results_version": RESULTS_VERSION,
        "name": config.name,
        "title": config.report.title or f"TRIMS: {config.name}",
        "coverage": _coverage(coverage),
        "mixed": mixed,
        "methods": methods,
        "tasks": tasks,
        "buckets": histogram,
        "examples": corpus_examples(
            rows, corpus.files("corpus-", ".parquet"), tokenizer, config.report.examples
        ),
        "losses": losses_of(trained_once(config, parents)),
        "rounds": rounds_of(config, parents),
        "costs": costs_of(config, parents),
        "stages": [_stage_row(role, artifact) for role, artifact in parents.items()],
        "provenance": _provenance(config, parents),
        "ablations": None,
    }
    results["caveats"] = caveats_of(results)
    return results


def to_json(results: Mapping[str, Any]) -> bytes:
    """The bytes of results.json: finite numbers only, methods and cells in the order of the settings."""
    return json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _task_results(
    config: TrimsConfig,
    task: str,
    cells: Sequence[Cell],
    methods: Sequence[Mapping[str, Any]],
    analysis: Artifact | None,
    buckets: Mapping[str, Any] | None,
) -> dict[str, Any]:
    with_further_caches, decoding = cells, config.sweep.decoding(task)
    cells = [cell for cell in cells if cell.cache == config.sweep.cache]
    if not cells:
        raise ReportError(
            f"task {task}: no cell with cache {config.sweep.cache}, which the curves are made of; redo the"
            " sweep with --refresh sweep"
        )
    pairs, samples = pairs_to_compare(methods, config.report.compare), config.report.bootstrap_samples
    return {
        "benchmark": config.sweep.tasks[task].benchmark_name,
        "protocol": protocol_of(config, task),
        "grader": cells[0].about.get("grader"),
        "rule": config.sweep.rule,
        "cache": config.sweep.cache,
        "stop_at_end": cells[0].stop_at_end,
        "gen_length": decoding.gen_length,
        "block_length": decoding.block_length,
        **comparison_of(task, cells, pairs, config.report),
        "cells": [_cell_row(cell) for cell in cells],
        "caches": _caches(with_further_caches),
        "answers": answers_side_by_side(cells, config.report.examples),
        "analysis": None if analysis is None else analysis_of(analysis, task, cells, pairs, buckets, samples),
    }


def comparison_of(
    task: str, cells: Sequence[Cell], pairs: Sequence[Pair], report: ReportConfig
) -> dict[str, Any]:
    """Curves, headline numbers and differences of the methods on one task.

    Args:
        cells: all of the task with one cache, over the same problems.
        pairs: differences to show; one of a method without cells is left out.
    """
    n = cells[0].n
    levels = choose_levels(ranges_of(cells), report.levels, common_forwards(cells))
    resampled, y_max = resample_methods(cells, resample_counts(n, report.bootstrap_samples, task), levels)
    pairs = [(a, b) for a, b in pairs if a in resampled and b in resampled]
    return {
        "n": n,
        "y_max_percent": rounded(y_max),
        "bootstrap_samples": report.bootstrap_samples,
        "curves": {name: points_of([c for c in cells if method_of(c) == name]) for name in resampled},
        "equal_tpf": levels.row(),
        "numbers": {name: numbers_of(method, levels) for name, method in resampled.items()},
        "comparisons": compare_all(pairs, task, resampled, levels, n),
    }


def _caches(cells: Sequence[Cell]) -> dict[str, list[dict[str, Any]]]:
    """The untuned student's curve with each cache, the exact one first; empty where it has one only."""
    untuned = [cell for cell in cells if cell.variant is None]
    caches = [name for name in get_args(CacheName) if any(cell.cache == name for cell in untuned)]
    if len(caches) < 2:
        return {}
    return {cache: points_of([cell for cell in untuned if cell.cache == cache]) for cache in caches}


def _cell_row(cell: Cell) -> dict[str, Any]:
    low, high = wilson_interval(cell.n_correct, cell.n)
    return {
        "model": cell.model,
        "method": method_of(cell),
        "seed": cell.seed,
        "cache": cell.cache,
        "threshold": cell.threshold,
        "n": cell.n,
        "n_correct": cell.n_correct,
        "accuracy": rounded(cell.n_correct / cell.n),
        "low": rounded(low),
        "high": rounded(high),
        "tpf": rounded(cell.tpf),
        "tokens": int(cell.tokens_N.sum()),
        "forwards": int(cell.forwards_N.sum()),
        "n_unfinished": cell.n_unfinished,
        "seconds": rounded(cell.seconds),
        "tokens_per_second": rounded(cell.tokens_per_second),
        "batch_size": max(cell.batch_sizes),
        "workers": max(cell.workers),
        "batch_sizes": list(cell.batch_sizes),
        "n_ungraded": cell.n_ungraded,
        "graders": cell.about.get("graders", {}),
        **{name: cell.about.get(name) for name in ("tpf_as", "check", "latency")},
        "machines": list(cell.about.get("machines", ())),
    }


def _coverage(coverage: Coverage) -> dict[str, Any]:
    return {
        "cells_expected": coverage.n_expected,
        "cells_found": coverage.n_found,
        "missing": list(coverage.missing),
        "reduced": list(coverage.reduced),
    }


def _stage_row(role: str, artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "node": role,
        "stage": manifest.stage,
        "seconds": rounded(manifest.seconds),
        "counts": dict(sorted(manifest.counts.items())),
        "fingerprint": manifest.fingerprint,
        "content_digest": manifest.content_digest,
        "seed": manifest.seed,
    }


def _provenance(config: TrimsConfig, parents: Mapping[str, Artifact]) -> dict[str, Any]:
    """The settings that change results, what the stages said about themselves, library versions and inputs.

    A version that differs between stages is listed once per value, so that a mixture shows.
    """
    versions: dict[str, set[str]] = {}
    inputs: dict[str, set[str]] = {}
    for artifact in parents.values():
        for library, version in artifact.manifest.versions.items():
            versions.setdefault(library, set()).add(version)
        for name, digest in artifact.manifest.inputs.items():
            inputs.setdefault(name, set()).add(digest)
    return {
        "config": config.result_fields(),
        "teacher": dict(parents["scores"].info) if "scores" in parents else None,
        "student": sorted({str(a.info["student"]) for a in parents.values() if "student" in a.info}),
        "versions": {name: sorted(values) for name, values in sorted(versions.items())},
        "inputs": {name: sorted(values) for name, values in sorted(inputs.items())},
        "seeds": list(config.train.seeds),
    }
