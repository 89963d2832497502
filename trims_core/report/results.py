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
from trims_core.report.analysed import Analyses, about
from trims_core.report.analysis import analysis_of
from trims_core.report.caveats import caveats_of
from trims_core.report.cells import Cell, Coverage, load_cells, method_of, models_of
from trims_core.report.comparison import (
    Pair,
    check_pairs,
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
from trims_core.report.protocols import check_comparable, check_machines, protocol_of
from trims_core.report.resampling import resample_counts, resample_methods
from trims_core.report.rounds import rounds_of, trained_once
from trims_core.report.runs import Run, artifacts_of, pairs_between, renamed, side_by_side
from trims_core.source import commit

if TYPE_CHECKING:
    from trims_core.store import Artifact

RESULTS_VERSION: Final = 9


def collect(
    config: TrimsConfig,
    parents: Mapping[str, Artifact],
    tokenizer: Decodes,
    *,
    partial: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """All results of a run, ready for JSON: `collect_runs` of this one."""
    return collect_runs([Run(config, parents)], tokenizer, partial=partial, progress=progress)


def collect_runs(
    runs: Sequence[Run],
    tokenizer: Decodes,
    *,
    title: str | None = None,
    pairs: Sequence[Pair] | None = None,
    partial: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """All results of one run, or of several side by side, ready for JSON.

    Args:
        runs: each with the artifacts of its graph by role; without buckets there is no histogram, and
            examples have no colours. The first one's settings say what is shown; corpus examples are its own.
        tokenizer: of the first run's student.
        title: default: the first run's.
        pairs: differences a − b; default: those that the first run's settings ask for. Of several runs: each
            method − the first run's of that name, or what one run with all of them would show.
        partial: draw what is there although cells are missing; the results then say n of N.

    Raises:
        ReportError: cells are missing or hold different problems (unless partial), or contradict cells.json;
            runs that cannot be compared.
    """
    runs = side_by_side(runs)
    check_comparable(runs)
    first, report = runs[0], runs[0].config.report
    progress("reading the cells")
    cells, coverage = load_cells(runs, partial=partial)
    mixed = check_machines(cells, mixed=report.mixed)
    methods = [row for run in runs for row in methods_of(run)]
    asked = report.compare if len(runs) == 1 else pairs_between(runs) or None
    check_pairs(pairs or (), methods)
    chosen = pairs_to_compare(methods, asked if pairs is None else pairs)
    tasks, buckets, analyses = {}, _buckets(first), Analyses(runs)
    for task in dict.fromkeys(task for run in runs for task in run.config.sweep.tasks):
        of_task = [cell for cell in cells if cell.task == task]
        if of_task:
            progress(f"resampling the problems of {task}")
            config = next(run.config for run in runs if task in run.config.sweep.tasks)
            tasks[task] = _task_results(config, task, of_task, chosen, report)
            tasks[task]["analysis"] = analysis_of(
                analyses, task, of_task, chosen, buckets, report.bootstrap_samples
            )
    progress("examples, losses and times")
    results = {
        "results_version": RESULTS_VERSION,
        "name": first.config.name if len(runs) == 1 else ", ".join(run.label for run in runs),
        "title": title or report.title or f"TRIMS: {first.config.name}",
        "coverage": _coverage(coverage),
        "mixed": mixed,
        "methods": methods,
        "tasks": tasks,
        "buckets": buckets,
        "examples": _examples(first, tokenizer),
        "losses": _losses(runs),
        "rounds": renamed(((run, rounds_of(run.config, run.parents)) for run in runs), "variant"),
        "costs": renamed(((run, costs_of(run.config, run.parents)) for run in runs), "method"),
        "stages": [_stage_row(role, artifact) for role, artifact in artifacts_of(runs)],
        "provenance": _provenance(runs),
        "runs": None if len(runs) == 1 else [_run_row(run) for run in runs],
        "ablations": None,
    }
    results["caveats"] = caveats_of(results)
    return results


def to_json(results: Mapping[str, Any]) -> bytes:
    """The bytes of results.json: finite numbers only, methods and cells in the order of the settings."""
    return json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _task_results(
    config: TrimsConfig, task: str, cells: Sequence[Cell], pairs: Sequence[Pair], report: ReportConfig
) -> dict[str, Any]:
    with_further_caches, decoding = cells, config.sweep.decoding(task)
    cells = [cell for cell in cells if cell.cache == config.sweep.cache]
    if not cells:
        raise ReportError(
            f"task {task}: no cell with cache {config.sweep.cache}, which the curves are made of; redo the"
            " sweep with --refresh sweep"
        )
    return {
        "benchmark": config.sweep.tasks[task].benchmark_name,
        "protocol": protocol_of(config, task),
        "grader": cells[0].about.get("grader"),
        "rule": config.sweep.rule,
        "cache": config.sweep.cache,
        "stop_at_end": cells[0].stop_at_end,
        "gen_length": decoding.gen_length,
        "block_length": decoding.block_length,
        **comparison_of(task, cells, pairs, report),
        "cells": [_cell_row(cell) for cell in cells],
        "caches": _caches(with_further_caches),
        "answers": answers_side_by_side(cells, report.examples),
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


def _run_row(run: Run) -> dict[str, Any]:
    """`methods`: own name of each → what it is called here. `analysis`: where it looked, whom it asked."""
    methods = {method: run.called(method) for method in run.methods()}
    analysis = about(run.parents["analysis"]) if "analysis" in run.parents else None
    row = {"label": run.label, "name": run.config.name, "methods": methods}
    return {**row, "buckets": _buckets(run), "analysis": analysis}


def _buckets(run: Run) -> dict[str, Any] | None:
    buckets = run.parents.get("buckets")
    return None if buckets is None else histogram_of(buckets)


def _examples(run: Run, tokenizer: Decodes) -> list[dict[str, Any]]:
    buckets = run.parents.get("buckets")
    rows = (
        run.parents["tokens"].files("tokens-", "/tokens.parquet")
        if buckets is None
        else buckets.files("buckets-", ".parquet")
    )
    corpus = run.parents["corpus"].files("corpus-", ".parquet")
    return corpus_examples(rows, corpus, tokenizer, run.config.report.examples)


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


def _losses(runs: Sequence[Run]) -> dict[str, Any]:
    losses = {}
    for run in runs:
        found = losses_of(trained_once(run.config, run.parents))
        for model in models_of(run.config):
            if model.name in found and (shown := run.shown(model)):
                losses[shown.name] = {**found[model.name], "method": shown.method}
    return losses


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
        "machine": manifest.versions.get("machine"),
        "commit": manifest.versions.get("commit"),
    }


def _provenance(runs: Sequence[Run]) -> dict[str, Any]:
    """The settings that change results, what the stages said about themselves, library versions and inputs.

    A version that differs between stages is listed once per value, so that a mixture shows. Settings and
    teachers of several runs stand under their labels. written_by: the commit that wrote these results.
    """
    versions: dict[str, set[str]] = {}
    inputs: dict[str, set[str]] = {}
    artifacts = [artifact for _, artifact in artifacts_of(runs)]
    for artifact in artifacts:
        for library, version in artifact.manifest.versions.items():
            versions.setdefault(library, set()).add(version)
        for name, digest in artifact.manifest.inputs.items():
            inputs.setdefault(name, set()).add(digest)
    configs = {run.label: run.config.result_fields() for run in runs}
    teachers = {run.label: dict(run.parents["scores"].info) for run in runs if "scores" in run.parents}
    one = runs[0].label if len(runs) == 1 else None
    return {
        "config": configs if one is None else configs[one],
        "teacher": (teachers or None) if one is None else teachers.get(one),
        "student": sorted({str(a.info["student"]) for a in artifacts if "student" in a.info}),
        "versions": {name: sorted(values) for name, values in sorted(versions.items())},
        "inputs": {name: sorted(values) for name, values in sorted(inputs.items())},
        "seeds": list(dict.fromkeys(seed for run in runs for seed in run.config.train.seeds)),
        "written_by": commit(),
    }
