"""The report's tables: rows of ready text for the page, Markdown (table.md) and CSV (tables/).

Accuracies are percent with a 95 % interval; differences carry a sign; a dash stands where there is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from trims_core.points import MEANINGS, WITHOUT_ERROR, RuleName, parallelism_order, point_text
from trims_core.report.ablations import ablations_table
from trims_core.report.analysis_tables import analysis_tables, changed_problems
from trims_core.report.cell_tables import between, cells_table, further_tables
from trims_core.report.contrast_tables import (
    MEANINGS_OF_INTERVALS,
    differences_table,
    mcnemar_table,
    methods_table,
    sentences,
)
from trims_core.report.costs import costs_table, published_costs_table
from trims_core.report.protocols import protocol_text, published_table
from trims_core.report.rounds import rounds_table
from trims_core.report.text_table import DASH, TextTable

_CACHE_SAYS: Final = {
    "none": "every forward sees the canvas as it is, which is exact",
    "prefix": "columns before the current block keep the keys and values they had when it began",
    "dual": "columns outside the current block keep the keys and values they had when it began",
    "exact": "finished blocks keep their keys and values, which is exact in block-causal students",
}
_MACHINE: Final = ("device", "dtype", "torch", "cuda")
_POINT_UNITS: Final = (
    "accuracy with [95 %] of one run over problems (Wilson), TPF = tokens per forward, tokens/s: decoding"
    " time only"
)


def decoding_text(found: Mapping[str, Any]) -> str:
    """With which rule and cache the curves of a task were decoded, and what the cache approximates."""
    text = f"Curves and comparisons are decoded with rule {found['rule']}: a forward reveals"
    text += f" {MEANINGS[found['rule']].says}. Cache {found['cache']}: {_CACHE_SAYS[found['cache']]}."
    if found["cache"] in WITHOUT_ERROR:
        return text
    shown = " The table of caches shows what that does to the untuned student." if found["caches"] else ""
    return f"{text} That is faster and approximate.{shown}"


def points_table(task: str, found: Mapping[str, Any]) -> TextTable:
    """Accuracy, tokens per forward and tokens per second of every method at every point."""
    seeds = max(point["n_seeds"] for points in found["curves"].values() for point in points)
    averaged = f", means of {seeds} seeds" if seeds > 1 else ""
    caption = (
        f"{task}: every method at every point (n = {found['n']}{averaged}; {_POINT_UNITS}, {_load(found)})"
    )
    return _points_grid(caption, found["curves"], found["rule"])


def caches_table(task: str, found: Mapping[str, Any]) -> TextTable:
    """The same of the untuned student with every cache."""
    caption = (
        f"{task}: the untuned student with every cache (n = {found['n']}; {_POINT_UNITS}, {_load(found)});"
        " none and exact are exact, prefix and dual approximate"
    )
    return _points_grid(caption, found["caches"], found["rule"])


def _points_grid(
    caption: str, curves: Mapping[str, Sequence[Mapping[str, Any]]], rule: RuleName
) -> TextTable:
    """A row per point, three columns per curve."""
    by_point = {name: {point["threshold"]: point for point in points} for name, points in curves.items()}
    thresholds = sorted(set().union(*by_point.values()), key=partial(parallelism_order, rule))
    header = ["point"]
    for name in curves:
        header += [f"{name}: accuracy, %", "TPF", "tokens/s"]
    rows = []
    for threshold in thresholds:
        row = [point_text(rule, threshold)]
        for points in by_point.values():
            row += _point_texts(points.get(threshold))
        rows.append(tuple(row))
    return TextTable(caption, tuple(header), tuple(rows))


def _point_texts(point: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if point is None:
        return (DASH, DASH, DASH)
    return (between(point), f"{point['tpf']:.2f}", f"{point['tokens_per_second']:.0f}")


def _load(found: Mapping[str, Any]) -> str:
    """Under what load the tokens per second hold: `batch × threads 8 × 2`."""
    loads = dict.fromkeys(f"{cell['batch_size']} × {cell['workers']}" for cell in found["cells"])
    return f"batch × threads {', '.join(loads)}"


def stages_table(results: Mapping[str, Any]) -> TextTable:
    """Seconds and counts of every artifact the report is made from."""
    rows = []
    for row in results["stages"]:
        counts = row["counts"]
        others = {k: v for k, v in counts.items() if k not in ("n_in", "n_out", "n_rejected")}
        rows.append(
            (
                row["node"],
                f"{row['seconds']:.1f}",
                *(f"{counts[k]:,}" if k in counts else DASH for k in ("n_in", "n_out", "n_rejected")),
                ", ".join(f"{k} {v:,}" for k, v in others.items()) or DASH,
                row["fingerprint"][:12],
            )
        )
    total = sum(row["seconds"] for row in results["stages"])
    return TextTable(
        f"Stages: {total:.0f} s in all when nothing is cached",
        ("artifact", "seconds", "rows in", "rows out", "rejected", "other counts", "fingerprint"),
        tuple(rows),
    )


def machines_table(results: Mapping[str, Any]) -> TextTable | None:
    """On what the cells were decoded; None where they do not say."""
    told: dict[tuple[str, ...], list[str]] = {}
    for task, found in results["tasks"].items():
        for cell in found["cells"]:
            for machine in cell["machines"]:
                tasks = told.setdefault(tuple(_said(machine.get(name)) for name in _MACHINE), [])
                tasks += [] if task in tasks else [task]
    if not told:
        return None
    rows = tuple((", ".join(tasks), *machine) for machine, tasks in told.items())
    return TextTable("Where the cells were decoded", ("tasks", *_MACHINE), rows)


def _said(value: object) -> str:
    return DASH if value is None else str(value)


def contrasts(task: str, found: Mapping[str, Any]) -> list[TextTable]:
    """The tables that compare methods: levels, then differences and McNemar's tests where there are pairs."""
    return list(_contrasts(task, found).values())


def _contrasts(task: str, found: Mapping[str, Any]) -> dict[str, TextTable]:
    tables = {"methods": methods_table(task, found)}
    if found["comparisons"]:
        tables["differences"] = differences_table(task, found)
    tests = mcnemar_table(task, found)
    return tables if tests is None else {**tables, "mcnemar": tests}


def task_tables(results: Mapping[str, Any], task: str) -> dict[str, TextTable]:
    """All tables of a task by name, those left out for which there is nothing."""
    found = results["tasks"][task]
    tables = {**_contrasts(task, found), "points": points_table(task, found)}
    if found["caches"]:
        tables["caches"] = caches_table(task, found)
    tables |= {"cells": cells_table(task, found), **dict(further_tables(task, found))}
    if results["ablations"] is not None:
        tables["ablations"] = ablations_table(task, results)
    tables |= analysis_tables(task, found)
    published = published_table(task, found)
    return tables if published is None else {**tables, "published": published}


def run_tables(results: Mapping[str, Any]) -> dict[str, TextTable]:
    """The tables that are of no task, by name."""
    tables = {"costs": costs_table(results), "published-costs": published_costs_table()}
    for name, table in (("rounds", rounds_table(results)), ("machines", machines_table(results))):
        tables |= {} if table is None else {name: table}
    return {**tables, "stages": stages_table(results)}


_HEADINGS: Final = {
    "costs": "Costs",
    "published-costs": "What it cost others",
    "rounds": "Reinforcement",
    "machines": "Machines",
    "stages": "Stages",
}


def table_markdown(results: Mapping[str, Any]) -> str:
    """table.md: findings, what limits them, and the tables."""
    parts = [f"# {results['title']}\n"]
    for heading, lines in (("Findings", sentences(results)), ("What limits them", results["caveats"])):
        if lines:
            parts.append(f"## {heading}\n\n" + "\n".join(f"- {line}" for line in lines) + "\n")
    for task, found in results["tasks"].items():
        tables = task_tables(results, task).values()
        says = [protocol_text(found), decoding_text(found), *MEANINGS_OF_INTERVALS]
        parts.append(f"## {task}\n\n{' '.join(says)}\n\n" + "\n".join(table.markdown() for table in tables))
    for name, table in run_tables(results).items():
        parts.append(f"## {_HEADINGS[name]}\n\n" + table.markdown())
    return "\n".join(parts)


def write_tables(results: Mapping[str, Any], folder: Path) -> list[str]:
    """Writes every table as CSV, a task's as <task>-<name>.csv; gives back the file names."""
    named: dict[str, TextTable] = {}
    for task, found in results["tasks"].items():
        named |= {f"{task}-{name}": table for name, table in task_tables(results, task).items()}
        if (problems := changed_problems(found)) is not None:
            named[f"{task}-changed-problems"] = problems
    named |= run_tables(results)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in named.items():
        (folder / f"{name}.csv").write_text(table.csv(), encoding="utf-8", newline="")
    return [f"{name}.csv" for name in named]
