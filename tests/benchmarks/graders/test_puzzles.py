"""Countdown and Sudoku by their rules."""

from __future__ import annotations

import json

import pytest

from trims_core.benchmarks import get_grader

COUNTDOWN, STEPS = get_grader("countdown"), get_grader("countdown_steps")
SUDOKU, CELLS = get_grader("sudoku"), get_grader("sudoku_cells")
PUZZLE = json.dumps({"numbers": [15, 44, 79], "target": 50})
GRID = json.dumps({"puzzle": "1000000240030000", "solution": "1234341241232341"})
"""Dream's first with four given cells."""


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("<answer>79 - (44 - 15)</answer>", True),
        (r"\boxed{79 - 44 + 15}", True),
        (r"\boxed{79 - 44 + 15 + 0}", False),
        (r"\boxed{79 - 44 - 15}", False),
        (r"\boxed{79 - 29}", False),
        (r"\boxed{50}", False),
        ("79 - 44 + 15", False),
        ("", False),
    ],
)
def test_an_expression_uses_each_number_once_and_gives_the_target(text: str, right: bool) -> None:
    assert COUNTDOWN.is_right(text, PUZZLE) is right


def test_a_value_within_the_tolerance_is_the_target() -> None:
    near = json.dumps({"numbers": [1, 300000, 7], "target": 7})
    assert COUNTDOWN.is_right(r"\boxed{7 + 1/300000}", near)
    far = json.dumps({"numbers": [1, 30000, 7], "target": 7})
    assert not COUNTDOWN.is_right(r"\boxed{7 + 1/30000}", far)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("44-15=29,79-29=50", True),
        ("44 - 15 = 29\n79 - 29 = 50", False),  # without a box the first line alone
        ("<answer>44 - 15 = 29\n79 - 29 = 50</answer>", True),
        ("44-15=29,79-29=50\n\nInput: 1,2,3", True),
        ("44-15=28,79-28=51", False),
        ("44-15=29", False),
        ("79-29=50,44-15=29", False),  # uses a result that is not there yet
        ("44-15=29,79-29=50,50-50=0", False),
        ("44-15=29,79-29=50.", False),
        ("79-44+15=50", False),
        ("", False),
    ],
)
def test_steps_use_up_what_there_is(text: str, right: bool) -> None:
    assert STEPS.is_right(text, PUZZLE) is right


@pytest.mark.parametrize("grader", [COUNTDOWN, STEPS, get_grader("d1_countdown")], ids=lambda one: one.name)
def test_a_right_answer_that_is_no_puzzle_is_an_error_of_the_grader(grader: object) -> None:
    grade = get_grader(grader.name).grade(r"\boxed{5}", "5")  # type: ignore[attr-defined]
    assert grade.verdict == "error"
    assert "finds no puzzle" in (grade.problem or "")


@pytest.mark.parametrize(
    ("text", "verdict", "n_right"),
    [
        ("<answer>1234\n3412\n4123\n2341</answer>", "right", 12),
        ("1234341241232341", "right", 12),
        ("<answer>1234341241232314</answer>", "wrong", 10),
        ("<answer>2134341241232341</answer>", "wrong", 11),
        ("<answer>123434124123</answer>", "wrong", 0),
        ("", "wrong", 0),
    ],
)
def test_a_grid_solves_the_puzzle_or_not_and_its_cells_are_counted(
    text: str, verdict: str, n_right: int
) -> None:
    assert SUDOKU.grade(text, GRID).verdict == CELLS.grade(text, GRID).verdict == verdict
    assert SUDOKU.grade(text, GRID).share is None
    assert CELLS.grade(text, GRID).share == (n_right, 12)


def test_any_solution_is_right() -> None:
    puzzle = "0" * 16
    one, other = "1234341221434321", "4321214334121234"
    assert SUDOKU.is_right(other, json.dumps({"puzzle": puzzle, "solution": one}))


def test_a_solution_that_does_not_solve_is_refused() -> None:
    with pytest.raises(ValueError, match="does not solve the puzzle"):
        SUDOKU.gold_of(json.dumps({"puzzle": "1000000240030000", "solution": "4321214334121234"}))
