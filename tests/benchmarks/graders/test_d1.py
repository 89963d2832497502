"""d1's rules, faults included."""

from __future__ import annotations

import json

import pytest

from trims_core.benchmarks import get_grader

GSM8K, MATH = get_grader("d1_gsm8k"), get_grader("d1_math")
COUNTDOWN, SUDOKU = get_grader("d1_countdown"), get_grader("d1_sudoku")
PUZZLE = json.dumps({"numbers": [2, 3, 4], "target": 10})
GRID = json.dumps({"puzzle": "4320004330100004", "solution": "4321124334122134"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{18} \boxed{19}", "18"),
        (r"\boxed{...} \boxed{x} \boxed{19.0}", "19"),
        (r"\boxed{1,234}", "1"),
        (r"\boxed{\frac{3}{4}}", "3"),
        (r"<answer>3 of 4</answer>", "4"),
        (r"<answer>3</answer><answer>4</answer>", "3"),
        (r"\boxed{x}<answer>3</answer>", "3"),
        ("<answer>3", None),
        ("3", None),
    ],
)
def test_gsm8k_takes_the_first_box_then_the_first_answer_element(text: str, expected: str | None) -> None:
    assert GSM8K.extract(text) == expected


def test_gsm8k_never_meets_a_negative_right_answer() -> None:
    assert GSM8K.is_right(r"\boxed{10}", "10")
    assert not GSM8K.is_right(r"\boxed{-10}", "-10")


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        (r"\boxed{3} \boxed{\dfrac12}", r"\frac{1}{2}", True),
        (r"\boxed{x=5}", "5", True),
        (r"\boxed{5\text{ cm}}", "5", True),
        (r"\boxed{0.50}", r"\frac{1}{2}", False),
        (r"<answer>5</answer>", "5", False),  # without any box the whole text is the answer
        (r"<answer>5</answer> \boxed{5", "5", True),
        (r"\boxed{}<answer> 5 </answer>", "5", True),
        ("5", "5", True),
        ("", "5", False),
    ],
)
def test_math_takes_the_last_box(text: str, gold: str, right: bool) -> None:
    assert MATH.is_right(text, gold) is right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (r"\boxed{(3 + 2) \times 4 - 10} \boxed{2 \times 3 + 4}", True),
        (r"\boxed{2*3+4 = 10}", True),
        (r"<answer>2*3+4</answer> \boxed{2", True),
        ("2*3+4", True),
        (r"\boxed{2*3+3}", False),
        (r"\boxed{2+3+4}", False),
        (r"\boxed{2**3+4-2}", False),
        (r"\boxed{}", False),
        ("", False),
    ],
)
def test_countdown_takes_the_last_box_as_python_reads_it(text: str, right: bool) -> None:
    assert COUNTDOWN.is_right(text, PUZZLE) is right


@pytest.mark.parametrize("text", ["9**9**9**9", "(" * 300 + "9", "9" * 5000, "9/(9-9)"])
def test_countdown_runs_nothing(text: str) -> None:
    gold = json.dumps({"numbers": [9] * max(1, text[:999].count("9")), "target": 1})
    assert COUNTDOWN.grade(f"\\boxed{{{text}}}", gold).verdict == "wrong"


@pytest.mark.parametrize(
    ("text", "n_right"),
    [
        ("<answer>\n4321124334122134\n</answer>", 8),
        ("<answer>4321 1243 3412 2134 11</answer>", 8),
        ("<answer>4321124334122134<|eot_id|>", 8),
        ("<answer>4321124334122134", 8),
        ("<answer>4321</answer>", 1),
        ("<answer></answer> 4321124334122134", 8),
        ("the grid 4321124334122134 it is", 8),
        ("<answer>grid:4321124334122134</answer>", 0),
        ("nothing", 0),
    ],
)
def test_sudoku_counts_empty_cells(text: str, n_right: int) -> None:
    grade = SUDOKU.grade(text, GRID)
    assert grade.share == (n_right, 8)
    assert grade.verdict == ("right" if n_right == 8 else "wrong")
    assert SUDOKU.floors
