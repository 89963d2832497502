"""The grid and the numbers of a finished cell."""

from __future__ import annotations

from typing import Any, get_args

from trims_core.config import StudentConfig
from trims_core.points import CacheName, RuleName
from trims_core.sweep.cells import Cell, chunk_notes, grid, summarise, table
from trims_core.sweep.settings import SweepSettings, sweep_settings
from trims_core.sweep_sections import SweepConfig

SAMPLES = {
    "finished": [True, True, False, True],
    "n_tokens": [10, 20, 32, 10],
    "n_tokens_canvas": [32, 32, 32, 32],
    "n_tokens_text": [9, 19, 32, 9],
    "n_forwards": [5, 5, 16, 10],
}
PROMPTS = [7, 8, 9, 10]
CONDITIONS = {"stop_at_end": True}


def cell(threshold: float | None, cache: CacheName = "none", rule: RuleName = "threshold") -> Cell:
    """A cell of the task `demo`."""
    return Cell("demo", cache, rule, threshold)


def chosen(raw: dict[str, Any], *, tuned: bool = False) -> SweepSettings:
    """A model's sweep from settings as in YAML."""
    return sweep_settings(SweepConfig.model_validate(raw), StudentConfig(model="x"), None, tuned=tuned)


def chunk(seconds: float = 2.0, batch_size: int = 4, **columns: list[Any]) -> dict[str, Any]:
    """What a unit notes."""
    samples = {**SAMPLES, **columns}
    notes = chunk_notes(samples, seconds, PROMPTS[: len(samples["finished"])])
    return {**notes, "batch_size": batch_size, "workers": 1}


def test_every_task_has_the_one_token_point_and_each_threshold_once() -> None:
    tasks = {"a": {"benchmark": "demo"}, "b": {"benchmark": "gsm8k"}}
    cells = grid(chosen({"tasks": tasks, "thresholds": [0.9, 0.25, 0.9]}))
    assert cells == [
        Cell(task, "none", "threshold", point) for task in ("a", "b") for point in (None, 0.9, 0.25)
    ]
    assert [cell.name for cell in cells[:3]] == ["a-tone", "a-t0.9", "a-t0.25"]


def test_the_untuned_student_alone_is_swept_with_further_caches_each_once() -> None:
    raw = {"tasks": {"a": {"benchmark": "demo"}}, "thresholds": [0.9], "cache": "dual"}
    raw |= {"compare_caches": ["none", "dual", "none"]}
    assert [c.name for c in grid(chosen(raw, tuned=True))] == ["a-tone-dual", "a-t0.9-dual"]
    untuned = grid(chosen(raw, tuned=False))
    assert [c.name for c in untuned] == ["a-tone-dual", "a-t0.9-dual", "a-tone", "a-t0.9"]


TASKS = ("demo", "demo-dual", "demo-t0.9", "demo-t0.9-dual", "demo-tone")


def test_no_two_cells_share_a_name_whatever_a_task_is_called() -> None:
    cells = [
        Cell(task, cache, "threshold", point)
        for task in TASKS
        for cache in get_args(CacheName)
        for point in (None, 0.9)
    ]
    assert len({cell.name for cell in cells}) == len(cells)


def test_thresholds_that_differ_in_the_sixth_digit_have_names_of_their_own() -> None:
    assert cell(0.9000001).name != cell(0.9).name


def test_a_summary_counts_what_the_samples_of_all_chunks_say() -> None:
    second = chunk(1.0, 8, finished=[True], n_tokens=[18], n_forwards=[9])
    found = summarise(cell(0.9, "dual"), {"a/0000": chunk(), "a/0001": second}, CONDITIONS)
    assert (found["n"], found["n_unfinished"]) == (5, 1)
    assert (found["tokens"], found["forwards"], found["tpf"]) == (90, 45, 2.0)
    assert (found["seconds"], found["tokens_per_second"]) == (3.0, 30.0)
    assert (found["task"], found["cache"], found["rule"]) == ("demo", "dual", "threshold")
    assert (found["threshold"], found["stop_at_end"]) == (0.9, True)
    assert (found["batch_sizes"], found["workers"]) == ([4, 8], [1])
    assert found["units"] == ["a/0000", "a/0001"]


def test_the_table_shows_each_cell_with_its_speed_and_n() -> None:
    rows = [summarise(cell(t), {"a": chunk()}, CONDITIONS) for t in (None, 0.9)]
    lines = table(rows).splitlines()
    assert lines[2] == "| demo | none | one token per forward | 2.00 | 36 | 1 | 4 |"
    assert lines[3].startswith("| demo | none | threshold 0.9 |")


def test_a_cell_names_itself_in_words() -> None:
    assert cell(0.9).text() == "demo at threshold 0.9"
    assert cell(None, "dual").text() == "demo at one token per forward with cache dual"
    assert cell(0.25, rule="entropy").text() == "demo at entropy 0.25 nats"
