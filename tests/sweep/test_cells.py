"""The grid and the numbers of a finished cell."""

from __future__ import annotations

from typing import get_args

import pytest

from trims_core.config import SweepConfig
from trims_core.points import CacheName, RuleName
from trims_core.sweep.cells import Cell, grid, summarise, table

IDENTITY = {"model": "untuned", "variant": None, "seed": None}
CONDITIONS = {"batch_size": 4, "workers": 1, "stop_at_end": True}
SAMPLES = {
    "correct": [True, False, True, True],
    "finished": [True, True, False, True],
    "n_tokens": [10, 20, 32, 10],
    "n_forwards": [5, 5, 16, 10],
}


def cell(threshold: float | None, cache: CacheName = "none", rule: RuleName = "threshold") -> Cell:
    """A cell of the task `demo`."""
    return Cell("demo", cache, rule, threshold)


def test_every_task_has_the_one_token_point_and_each_threshold_once() -> None:
    tasks = {"a": {"benchmark": "demo"}, "b": {"benchmark": "gsm8k"}}
    config = SweepConfig.model_validate({"tasks": tasks, "thresholds": [0.9, 0.25, 0.9]})
    cells = grid(config, tuned=False)
    assert cells == [
        Cell(task, "none", "threshold", point) for task in ("a", "b") for point in (None, 0.9, 0.25)
    ]
    assert [cell.file for cell in cells[:3]] == [
        "cells/a-tone.parquet",
        "cells/a-t0.9.parquet",
        "cells/a-t0.25.parquet",
    ]


def test_the_untuned_student_alone_is_swept_with_further_caches_each_once() -> None:
    raw = {"tasks": {"a": {"benchmark": "demo"}}, "thresholds": [0.9], "cache": "dual"}
    config = SweepConfig.model_validate({**raw, "compare_caches": ["none", "dual", "none"]})
    assert [c.unit for c in grid(config, tuned=True)] == ["a-tone-dual", "a-t0.9-dual"]
    assert [c.unit for c in grid(config, tuned=False)] == ["a-tone-dual", "a-t0.9-dual", "a-tone", "a-t0.9"]


TASKS = ("demo", "demo-dual", "demo-t0.9", "demo-t0.9-dual", "demo-tone")


def test_no_two_cells_share_a_file_whatever_a_task_is_called() -> None:
    cells = [
        Cell(task, cache, "threshold", point)
        for task in TASKS
        for cache in get_args(CacheName)
        for point in (None, 0.9)
    ]
    assert len({cell.file for cell in cells}) == len(cells)


def test_thresholds_that_differ_in_the_sixth_digit_have_files_of_their_own() -> None:
    assert cell(0.9000001).file != cell(0.9).file


def test_a_summary_counts_what_the_samples_say() -> None:
    found = summarise(cell(0.9, "dual"), IDENTITY, SAMPLES, 2.0, CONDITIONS)
    assert found["n"] == 4
    assert (found["n_correct"], found["accuracy"]) == (3, 0.75)
    assert found["wilson_low"] < 0.75 < found["wilson_high"]
    assert (found["tokens"], found["forwards"], found["tpf"]) == (72, 36, 2.0)
    assert found["tokens_per_second"] == 36.0
    assert found["n_unfinished"] == 1
    assert (found["cache"], found["rule"]) == ("dual", "threshold")
    assert (found["batch_size"], found["stop_at_end"], found["threshold"]) == (4, True, 0.9)


def test_the_table_shows_each_cell_with_its_interval_and_n() -> None:
    rows = [summarise(cell(t), IDENTITY, SAMPLES, 2.0, CONDITIONS) for t in (None, 0.9)]
    lines = table(rows).splitlines()
    assert lines[2] == "| demo | none | one token per forward | 75.0 % (30.1–95.4) | 2.00 | 36 | 1 | 4 |"
    assert lines[3].startswith("| demo | none | threshold 0.9 |")


def test_a_cell_names_itself_in_words() -> None:
    assert cell(0.9).text() == "demo at threshold 0.9"
    assert cell(None, "dual").text() == "demo at one token per forward with cache dual"
    assert cell(0.25, rule="entropy").text() == "demo at entropy 0.25 nats"


def test_a_cell_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="0 successes of 0"):
        summarise(cell(None), IDENTITY, {key: [] for key in SAMPLES}, 1.0, CONDITIONS)
