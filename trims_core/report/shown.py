"""What the page shows beside results.json: ready sentences and tables, figures in words, looks, sources.

All of it follows from the results, so that the page's scripts need not compute or word anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trims_core.points import point_text
from trims_core.report.alternatives import caches_alt, curve_alt, difficulty_alt, losses_alt
from trims_core.report.appearance import LIGHT, Look, bucket_colours, cache_looks, looks, token_colours
from trims_core.report.contrast_tables import MEANINGS_OF_INTERVALS, range_text, where_text
from trims_core.report.headline import headlines_of, limits_of
from trims_core.report.protocols import protocol_text
from trims_core.report.tables import decoding_text, run_tables, task_tables
from trims_core.report.text_table import TextTable

_TOKEN_COLOURS: Final = 7
_MADE_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "curves": ("sweep", "grades"),
    "player": ("sweep", "grades", "analysis"),
    "comparisons": ("sweep", "grades"),
    "ablations": ("sweep", "grades"),
    "cells": ("sweep", "grades"),
    "analysis": ("analysis",),
    "buckets": ("buckets",),
    "examples": ("buckets", "tokens", "corpus"),
    "training": ("train",),
    "costs": ("scores", "aligned", "buckets", "tokens", "rollouts", "train", "sweep", "grades"),
    "caches": ("sweep", "grades"),
}
"""Section of the page → the stages whose artifacts it shows; the first one is what is made again."""


def shown_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """The texts and looks, ready for JSON."""
    caches = dict.fromkeys(cache for found in results["tasks"].values() for cache in found["caches"])
    buckets = results["buckets"]
    return {
        "tasks": {task: _task(results, task) for task in results["tasks"]},
        "tables": _rows(run_tables(results)),
        "intervals": list(MEANINGS_OF_INTERVALS),
        "alts": {
            "difficulty": None if buckets is None else difficulty_alt(buckets),
            "losses": losses_alt(results["losses"]),
        },
        "methods": _looks(
            looks(results["methods"], LIGHT), [f"method-{i}" for i in range(len(results["methods"]))]
        ),
        "caches": _looks(cache_looks(list(caches), LIGHT), [f"cache-{name}" for name in caches]),
        "bucket_colours": [] if buckets is None else bucket_colours(buckets["k"]),
        "token_colours": token_colours(_TOKEN_COLOURS),
        "sources": {section: _sources(results, stages) for section, stages in _MADE_OF.items()},
    }


def _task(results: Mapping[str, Any], task: str) -> dict[str, Any]:
    found = results["tasks"][task]
    thresholds = dict.fromkeys(cell["threshold"] for cell in found["cells"])
    answers_at = found["answers"]["threshold"]
    return {
        "headlines": headlines_of(results, task),
        "limits": limits_of(results, task),
        "sentences": [pair["sentence"] for pair in found["comparisons"]],
        "decoding": f"{protocol_text(found)} {decoding_text(found)}",
        "range": range_text(found),
        "where": where_text(found),
        "points": [[one, point_text(found["rule"], one)] for one in thresholds],
        "answers_at": point_text(found["rule"], answers_at),
        "tables": _rows(task_tables(results, task)),
        "alts": {
            "curve": curve_alt(task, found),
            "caches": caches_alt(task, found) if found["caches"] else None,
        },
    }


def _rows(tables: Mapping[str, TextTable]) -> dict[str, Any]:
    return {
        name: {"caption": table.caption, "header": table.header, "rows": table.rows}
        for name, table in tables.items()
    }


def _looks(found: Mapping[str, Look], variables: list[str]) -> dict[str, Any]:
    """Colours are variables of the style sheet, which has them for both themes."""
    return {
        name: {"colour": f"var(--{variable})", "symbol": look.symbol, "dashed": look.is_dashed}
        for (name, look), variable in zip(found.items(), variables, strict=True)
    }


def _sources(results: Mapping[str, Any], stages: tuple[str, ...]) -> dict[str, Any]:
    """The artifacts of these stages, the command that makes them again, and the one that draws them again."""
    rows = [row for row in results["stages"] if row["stage"] in stages]
    there = [stage for stage in stages if any(row["stage"] == stage for row in rows)]
    of_arm = " --set <an arm's values>" if results["ablations"] else ""
    return {
        "artifacts": [[row["node"], row["fingerprint"][:12]] for row in rows],
        "command": f"trims run CONFIG{of_arm} --refresh {there[0]}" if there else None,
        "drawn_by": _drawn_by(results),
    }


def _drawn_by(results: Mapping[str, Any]) -> str:
    if results["ablations"]:
        return "trims ablate CONFIG"
    return "trims compare RUN…" if results["runs"] else "trims run CONFIG --refresh report"
