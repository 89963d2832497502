"""Rewards as they should be: what is right earns 1, however it is written, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from trims_core.benchmarks.rewards import REWARDS

PUZZLE, SOLUTION = "1204430021433412", "1234432121433412"
GRID = json.dumps({"puzzle": PUZZLE, "solution": SOLUTION})
FIVE = json.dumps({"numbers": [2, 3, 4], "target": 5})


def value(name: str, completion: str, answer: str, prompt: str = "?") -> float | None:
    return REWARDS[name].value([{"role": "user", "content": prompt}], completion, answer)


def tagged(answer: str, reasoning: str = "r") -> str:
    return f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"


def check(name: str, answer: str, texts: Sequence[str], expected: float) -> None:
    for text in texts:
        assert value(name, text, answer) == expected, text


def test_demo() -> None:
    check("demo", "3 + 4 = 7. The answer is 7.", ["The answer is 7.", "So. The answer is 7.0."], 1.0)
    check("demo", "The answer is 7.", ["The answer is 8.", "The answer is 7", "7", ""], 0.0)


def test_gsm8k_takes_a_number_however_it_is_written() -> None:
    right = [
        tagged("1,200"),
        tagged("1200.0"),
        tagged("$1200"),
        tagged("\\boxed{1200}"),
        "\\boxed{1200} of 3",
    ]
    right += [
        "#### 1200",
        "It costs 1,200 dollars",
        "<answer>5</answer> no: <answer>1200</answer>",
        "<answer>1200",
    ]
    check("gsm8k", "a\n#### 1,200", right, 1.0)
    wrong = [tagged("5") + "1200", tagged("none") + "1200", "\\boxed{5} 1200", "1200\n#### 5", "", tagged("")]
    check("gsm8k", "a\n#### 1,200", wrong, 0.0)
    assert value("gsm8k", "4", tagged("4", reasoning="9")) == 1.0


def test_tags_may_hold_several_lines_and_nothing_stands_around_them() -> None:
    check(
        "gsm8k_format",
        "",
        [tagged("4"), tagged("4", "a\nb\nc"), "<reasoning></reasoning><answer></answer>"],
        1.0,
    )
    check(
        "gsm8k_format",
        "",
        [tagged("4") + "more", "so " + tagged("4"), "<answer></answer><reasoning></reasoning>"],
        0.5,
    )
    check("gsm8k_format", "", ["<answer>4</answer>"], 0.25)
    check("gsm8k_format", "", ["", "4", tagged("4") * 2], 0.0)


def test_math_needs_a_box_or_an_answer_element_and_compares_what_is_meant() -> None:
    gold = "Thus $\\boxed{\\frac{1}{2}}$."
    right = ["\\boxed{1/2}", "\\boxed{\\tfrac12}", "\\boxed{.5}", "<answer>\\dfrac{1}{2}</answer>"]
    check("math", gold, [*right, tagged("$\\boxed{0.5}$"), "\\boxed{3} and \\boxed{\\frac12}"], 1.0)
    check("math", gold, ["\\boxed{1/2} and \\boxed{3"], 1.0)
    check("math", gold, ["1/2", "\\boxed{\\frac12} no \\boxed{3}", "\\boxed{2}", "", "\\boxed{1/2"], 0.0)
    check("math", "\\boxed{1{,}000}", ["\\boxed{1000}", "\\boxed{1,000.0}", "<answer>1,000</answer>"], 1.0)
    check("math", "\\boxed{(1,2)}", ["\\boxed{12}"], 0.0)
    check("math", "\\boxed{1,2}", ["\\boxed{12}"], 0.0)
    check("math", "\\boxed{x/y}", ["\\boxed{x / y}"], 1.0)


def test_math_format_pays_the_element_and_the_box_that_the_published_one_means() -> None:
    check("math_format", "", [tagged("\\boxed{4}")], 1.0)
    check(
        "math_format", "", [tagged("4"), "\\boxed{4}", tagged("4") + "\\boxed{4}", tagged("\\boxed{4")], 0.5
    )
    check("math_format", "", ["", "4", "<answer>4", "\boxed{4}"], 0.0)


def test_countdown_takes_an_expression_however_it_is_written() -> None:
    right = ["2*4-3", "4 × 2 − 3", "(2*4)\n-3", "\\boxed{2*4-3}", "$2 \\times 4 - 3$", "-(3-2*4)", "-3+2*4"]
    check("countdown", FIVE, [*map(tagged, right), "so \\boxed{2\\cdot 4-3}"], 1.0)
    assert (
        value("countdown", tagged("\\frac{10}{3}*3"), json.dumps({"numbers": [3, 3, 10], "target": 10}))
        == 1.0
    )


@pytest.mark.parametrize(
    "text",
    [
        "2*4-3=5",
        "2+4-3",
        "2*4",
        "2*4-3+0",
        "4**2-3-8",
        "2//4+3",
        "4(2)-3",
        "24-3",
        "",
        "5",
        "2*4-3 or 1",
        "٢*4-3",
    ],
)
def test_countdown_takes_no_other(text: str) -> None:
    assert value("countdown", tagged(text), FIVE) == 0.0
    assert value("countdown", text, FIVE) == 0.0


def test_an_answer_element_that_was_begun_anew_holds_what_came_last() -> None:
    assert value("countdown", "<answer>2+ <answer>2*4-3</answer>", FIVE) == 1.0


def test_countdown_pays_nothing_without_an_answer_and_form_apart() -> None:
    assert value("countdown", "2*4-3", FIVE) == 0.0
    assert value("countdown_format", tagged("2+4-3"), FIVE) == 1.0
    check("countdown_format", FIVE, [tagged("2+4-3=3"), "2*4-3", tagged("?"), tagged("1/0")], 0.0)


def test_sudoku_is_the_whole_puzzle() -> None:
    grid = "\n".join(SOLUTION[row : row + 4] for row in range(0, 16, 4))
    check("sudoku", GRID, [tagged(SOLUTION), tagged(grid), tagged(" | ".join(SOLUTION)), SOLUTION], 1.0)
    wrong = [SOLUTION[:15], SOLUTION + "1", "Step 1: " + SOLUTION, PUZZLE, "1" * 16, "", "2143341212344321"]
    check("sudoku", GRID, [*map(tagged, wrong), ""], 0.0)


def test_sudoku_takes_every_grid_that_solves_an_ambiguous_puzzle() -> None:
    several = json.dumps({"puzzle": "1000000000000000", "solution": "1234341221434321"})
    check("sudoku", several, [tagged("1234341221434321"), tagged("1243342121344312")], 1.0)
    check(
        "sudoku",
        several,
        [tagged("1234123412341234"), tagged("1234341212344321"), tagged("2143431212343421")],
        0.0,
    )


def test_the_cell_share_is_of_complete_grids_alone() -> None:
    check("sudoku_cells", GRID, [tagged(SOLUTION)], 1.0)
    check("sudoku_cells", GRID, [tagged("1" * 16), tagged("2" * 16)], 1 / 3)
    check("sudoku_cells", GRID, [tagged(SOLUTION[:12]), tagged(PUZZLE), ""], 0.0)
    check("sudoku_compat", GRID, [tagged(SOLUTION[:12])], 1.0)


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        ("demo", "Seven.", "expected The answer is N"),
        ("gsm8k", "Seven.", "expected a number"),
        ("math", "It is 7.", r"expected a complete \\boxed"),
        ("math", "\\boxed{7", r"expected a complete \\boxed"),
        ("countdown", "Seven.", "finds no puzzle"),
        ("sudoku", "Seven.", "finds no puzzle in the prompt"),
        ("sudoku_cells", json.dumps({"puzzle": PUZZLE}), "finds no solution"),
        ("sudoku_cells", json.dumps({"puzzle": PUZZLE, "solution": "1" * 16}), "does not solve the puzzle"),
    ],
)
def test_a_corpus_completion_without_the_answer_is_no_verdict_on_the_student(
    name: str, answer: str, expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        value(name, tagged("\\boxed{7}"), answer)
