"""Weak numbers are said to be weak, and strong ones are left alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from trims_core.report.caveats import caveats_of


def strong_results() -> dict[str, Any]:
    """Results that deserve no caveat."""

    def cell(threshold: float | None, accuracy: float) -> dict[str, Any]:
        return {
            "model": "trims-s0",
            "threshold": threshold,
            "n": 5000,
            "accuracy": accuracy,
            "low": accuracy - 0.01,
            "high": accuracy + 0.01,
            "n_unfinished": 3,
            "batch_sizes": [16],
            "n_ungraded": 0,
            "tpf": 1.0 if threshold is None else 3.0,
            "check": None,
        }

    cells = [cell(None, 0.8), cell(0.5, 0.76)]
    return {
        "coverage": {"missing": [], "reduced": [], "cells_found": 2, "cells_expected": 2},
        "methods": [{"name": "trims", "seeds": [0, 1, 2]}],
        "mixed": [],
        "tasks": {
            "demo": {
                "n": 5000,
                "rule": "threshold",
                "y_max_percent": 80.0,
                "gen_length": 64,
                "grader": "words 1",
                "protocol": {"profile": "demo@demo", "departures": []},
                "equal_tpf": {
                    "range": [1.5, 3.0],
                    "levels": [2.0],
                    "automatic": False,
                    "left_out": [],
                    "forwards": [],
                },
                "cells": cells,
                "curves": {"trims": copy.deepcopy(cells)},
            }
        },
        "buckets": {"n_zero": 10, "n_tokens": 1000, "k": 8},
        "stages": [{"node": "scores", "counts": {"n_in": 10, "n_out": 10, "n_rejected": 0}}],
        "provenance": {"student": ["student"]},
        "runs": None,
    }


def test_strong_results_have_no_caveats() -> None:
    assert caveats_of(strong_results()) == []


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("coverage.missing", ["a", "b"], "Partial report: 2 of 2 cells. Missing: a; b."),
        ("coverage.reduced", ["demo: only 3"], "Partial report: demo: only 3."),
        ("methods.0.seeds", [7], "One training seed per method"),
        ("tasks.demo.grader", "humaneval 1 without a sandbox", "demo: programs ran without a sandbox"),
        ("mixed", ["demo: cells of different machines"], "demo: cells of different machines"),
        (
            "tasks.demo.protocol.departures",
            ["gen_length 64 (profile: 256)"],
            "demo: not profile demo@demo as published, and to be compared with nothing published under it:"
            " gen_length 64 (profile: 256).",
        ),
        ("tasks.demo.equal_tpf.range", None, "the methods share no range of tokens per forward"),
        (
            "tasks.demo.equal_tpf.left_out",
            [{"tpf": 6.0, "model": "untuned", "end": "fastest", "at": 5.312}],
            "6 (the fastest threshold of untuned reaches 5.31)",
        ),
        (
            "tasks.demo.equal_tpf.left_out",
            [{"tpf": 2.0, "model": "trims-s1", "end": "slowest", "at": 2.147}],
            "report.levels: 2 (the slowest threshold of trims-s1 is at 2.15).",
        ),
        ("tasks.demo.cells.0.low", 0.7, "one accuracy is known to about ± 5.5 points"),
        ("tasks.demo.y_max_percent", 3.0, "the best accuracy is 3.0 %"),
        ("tasks.demo.cells.1.n_unfinished", 400, "most with trims-s0 at threshold 0.5 (400 of 5000)"),
        (
            "tasks.demo.curves.trims.1.high",
            0.795,
            "does not fall measurably from 1.0 to 3.0 tokens per forward",
        ),
        ("tasks.demo.curves.trims.1.accuracy", 0.7, "trims 1 of 2"),
        ("tasks.demo.cells.1.batch_sizes", [8, 16], "in batches of [8, 16]"),
        ("tasks.demo.cells.1.n_ungraded", 3, "answers could not be graded"),
        ("buckets.n_zero", 126, "12.6 % of the answer tokens have a difficulty of exactly 0 nats"),
        ("stages.0.counts.n_rejected", 4, "scores: 4 of 10 rows were rejected"),
    ],
)
def test_each_weakness_is_said_plainly(place: str, value: object, sentence: str) -> None:
    results = strong_results()
    here: Any = results
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    for part in path:
        here = here[part]
    here[last] = value
    (found,) = caveats_of(results)
    assert sentence in found


def test_a_curve_without_extent_is_not_called_flat() -> None:
    results = strong_results()
    points = results["tasks"]["demo"]["curves"]["trims"]
    points[1].update(tpf=1.05, high=0.8)
    assert caveats_of(results) == []


def test_equal_forwards_stand_in_for_a_range() -> None:
    results = strong_results()
    results["tasks"]["demo"]["equal_tpf"] |= {"range": None, "levels": [], "forwards": [6]}
    assert caveats_of(results) == []


def test_round_numbers_in_place_of_the_configured_levels_are_named() -> None:
    results = strong_results()
    where = results["tasks"]["demo"]["equal_tpf"]
    where |= {"automatic": True, "levels": [1.6, 1.8]}
    assert caveats_of(results) == []  # none was configured
    where["left_out"] = [{"tpf": 2.5, "model": "a", "end": "fastest", "at": 1.9}]
    assert caveats_of(results)[1] == (
        "demo: none of report.levels lies where all methods were decoded; shown instead: 1.6, 1.8."
    )


def test_a_draw_between_methods_is_a_finding_and_not_hidden(results: dict[str, Any]) -> None:
    for pair in results["tasks"]["demo"]["comparisons"]:
        undecided = pair["mean_over_range"]["p_holm"] >= 0.05
        assert ("cannot be told apart" in pair["sentence"]) == undecided


def test_what_stands_for_the_first_of_several_runs_alone_is_said() -> None:
    results = strong_results()
    results["provenance"]["student"] = ["a", "b"]
    results["runs"] = [
        {"label": "first", "buckets": results["buckets"], "analysis": None},
        {"label": "second", "buckets": {**results["buckets"], "k": 4}, "analysis": None},
    ]
    buckets, students = caveats_of(results)
    assert buckets.startswith("Buckets and corpus examples are those of first; the buckets of second are")
    assert students.startswith("The runs have different students (a, b)")
