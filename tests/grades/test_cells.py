"""A graded cell says how many are right beside how fast they were decoded."""

from __future__ import annotations

from typing import Any

import pytest

from trims_core.errors import SweepError
from trims_core.grades.cells import n_ungraded, summarise, table, text

SWEPT = {
    "task": "demo",
    "cache": "dual",
    "rule": "threshold",
    "threshold": 0.9,
    "n": 4,
    "tpf": 2.0,
    "tokens_per_second": 36.0,
    "n_unfinished": 1,
}


def chunk(**verdicts: int) -> dict[str, int]:
    """A unit's counts."""
    return {"right": 0, "wrong": 0, "timeout": 0, "error": 0, **verdicts}


GRADES = {
    "words 1": [chunk(right=2), chunk(right=1, error=1)],
    "numbers 2": [chunk(right=1, wrong=1), chunk(wrong=2)],
}


def graded(swept: dict[str, Any] | None = None) -> dict[str, Any]:
    """Three of four right, in two chunks."""
    return summarise({**SWEPT, **(swept or {})}, GRADES)


def test_a_summary_counts_verdicts_over_all_chunks_and_keeps_the_sweeps_numbers() -> None:
    found = graded()
    assert {name: found[name] for name in SWEPT} == SWEPT
    assert (found["n_correct"], found["accuracy"], found["grader"]) == (3, 0.75, "words 1")
    assert found["wilson_low"] < 0.75 < found["wilson_high"]
    assert found["verdicts"] == chunk(right=3, error=1)
    assert n_ungraded(found) == 1


def test_a_summary_keeps_what_every_grader_says() -> None:
    found = graded()
    assert list(found["graders"]) == ["words 1", "numbers 2"]
    assert found["graders"]["words 1"] == {name: found[name] for name in found["graders"]["words 1"]}
    assert found["graders"]["numbers 2"]["accuracy"] == 0.25
    assert found["graders"]["numbers 2"]["verdicts"] == chunk(right=1, wrong=3)


def test_parts_that_are_right_stand_beside_whole_answers_with_their_floors() -> None:
    chunks = [{**chunk(right=1, wrong=1), "parts": [9, 16]}, {**chunk(wrong=2), "parts": [3, 16]}]
    found = summarise(SWEPT, {"cells 1": chunks}, {"cells 1": "no thought: 24 %"})
    assert (found["accuracy"], found["graders"]["cells 1"]["parts"]) == (0.25, [12, 32])
    assert found["graders"]["cells 1"]["floors"] == "no thought: 24 %"
    assert "parts" not in found
    assert "| cells 1: 37.5 % of 32 parts |" in table([found])


def test_other_counts_of_grades_than_of_samples_are_refused_by_the_cells_name() -> None:
    with pytest.raises(SweepError, match=r"demo at threshold 0\.9: 4 grades of 5 samples"):
        graded({"n": 5})


def test_the_table_shows_each_cell_with_its_interval_and_n() -> None:
    rows = [graded({"threshold": threshold}) for threshold in (None, 0.9)]
    lines = table(rows).splitlines()
    numbers = "75.0 % (30.1–95.4) | numbers 2: 25.0 % | 2.00 | 36 | 1 | 1 | 4 |"
    assert lines[2] == f"| demo | dual | one token per forward | {numbers}"
    assert lines[3].startswith("| demo | dual | threshold 0.9 |")


def test_a_cell_says_its_accuracy_and_parallelism_in_words() -> None:
    assert text(graded()) == "demo at threshold 0.9 with cache dual: 75.0 % at 2.00 tokens per forward"
    assert text(graded({"cache": "none"})).startswith("demo at threshold 0.9: ")


def test_a_cell_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="0 successes of 0"):
        summarise({**SWEPT, "n": 0}, {"words 1": [chunk()]})
