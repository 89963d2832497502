"""The report as one HTML page that needs nothing else: no script, no request, figures inside.

A Content-Security-Policy in the page forbids every load but its own data, so that a browser enforces it.
Text from the corpus and from models is escaped.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from trims_core.points import point_text
from trims_core.report.appearance import VARIANTS, bucket_colours
from trims_core.report.cell_tables import cells_table, further_tables
from trims_core.report.contrast_tables import MEANINGS_OF_INTERVALS, range_text, sentences
from trims_core.report.costs import costs_table, published_costs_table
from trims_core.report.protocols import protocol_text, published_table
from trims_core.report.rounds import rounds_table
from trims_core.report.tables import (
    caches_table,
    contrasts,
    decoding_text,
    points_table,
    stages_table,
)


def render_page(results: Mapping[str, Any], figures: Path) -> str:
    """The page's HTML.

    Args:
        figures: folder with the figures that `figures.draw_all` made from the same results.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_resource("page.html"))
    buckets, teacher = results["buckets"], results["provenance"]["teacher"]
    return template.render(
        results=results,
        style=_resource("page.css"),
        sentences=sentences(results),
        intervals=MEANINGS_OF_INTERVALS,
        tasks=[_task(results, task, figures) for task in results["tasks"]],
        difficulty=None if buckets is None else _picture(figures, "difficulty", difficulty_alt(buckets)),
        losses=_picture(figures, "losses", losses_alt(results["losses"])) if results["losses"] else None,
        bucket_colours=[] if buckets is None else bucket_colours(buckets["k"]),
        costs=[costs_table(results), published_costs_table()],
        rounds=rounds_table(results),
        stages=stages_table(results),
        config=json.dumps(results["provenance"]["config"], indent=1, sort_keys=True, ensure_ascii=False),
        teacher=None
        if teacher is None
        else json.dumps(teacher, indent=1, sort_keys=True, ensure_ascii=False),
    )


def curve_alt(task: str, found: Mapping[str, Any]) -> str:
    """What the curve shows, in words: every method's points."""
    lines = []
    for name, points in found["curves"].items():
        by_tpf = sorted(points, key=lambda point: point["tpf"])
        shown = ", ".join(f"{100 * point['accuracy']:.0f} % at {point['tpf']:.1f}" for point in by_tpf)
        lines.append(f"{name}: {shown}")
    return f"Accuracy against tokens per forward on {task}, {found['n']} problems. " + "; ".join(lines) + "."


def caches_alt(task: str, found: Mapping[str, Any]) -> str:
    """The figure of the caches in words."""
    lines = []
    for name, points in found["caches"].items():
        shown = (f"{100 * point['accuracy']:.0f} % at {point['tokens_per_second']:.0f}" for point in points)
        lines.append(f"{name}: {', '.join(shown)}")
    return (
        f"Accuracy against tokens per second of the untuned student with each cache on {task}. "
        + "; ".join(lines)
        + "."
    )


def difficulty_alt(found: Mapping[str, Any]) -> str:
    """The histogram in words."""
    edges = ", ".join(f"{edge:.2g}" for edge in found["edges_nats"])
    return (
        f"Histogram of the difficulty of {found['n_tokens']:,} answer tokens on a logarithmic axis, coloured"
        f" by {found['k']} buckets; bucket edges in nats: {edges or 'none'}."
    )


def losses_alt(losses: Mapping[str, Mapping[str, Any]]) -> str:
    """The loss curves in words: first and last value of each."""
    lines = []
    for model, entry in losses.items():
        for kind, word in (("train", "training"), ("eval", "validation")):
            if entry[kind]:
                lines.append(f"{model} {word} {entry[kind][0][1]:.3g} to {entry[kind][-1][1]:.3g}")
    return "Loss curves: " + "; ".join(lines) + "."


def _task(results: Mapping[str, Any], task: str, figures: Path) -> dict[str, Any]:
    found = results["tasks"][task]
    return {
        "name": task,
        "found": found,
        "curve": _picture(figures, f"curve-{task}", curve_alt(task, found)),
        "decoding": f"{protocol_text(found)} {decoding_text(found)}",
        "range": range_text(found),
        "contrasts": contrasts(task, found),
        "points": points_table(task, found),
        "caches": caches_table(task, found) if found["caches"] else None,
        "caches_picture": _picture(figures, f"caches-{task}", caches_alt(task, found))
        if found["caches"]
        else None,
        "answers_at": point_text(found["rule"], found["answers"]["threshold"]),
        "published": published_table(task, found),
        "cells": [cells_table(task, found), *further_tables(task, found)],
    }


def _picture(figures: Path, name: str, alt: str) -> dict[str, str]:
    """A figure's four SVGs as data URLs, by ending, and its text."""
    urls = {}
    for ending in VARIANTS:
        data = (figures / f"{name}{ending}.svg").read_bytes()
        urls[ending] = "data:image/svg+xml;base64," + base64.b64encode(data).decode()
    return {**urls, "alt": alt}


def _resource(name: str) -> str:
    return resources.files("trims_core.report").joinpath(name).read_text(encoding="utf-8")
