"""Where a puzzle stands in an example, in the forms that data sets have."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from trims_core.benchmarks.puzzles import countdown_puzzle, sudoku_puzzle, sudoku_solution
from trims_core.benchmarks.sudoku_grids import solves


def asked(text: str) -> list[dict[str, str]]:
    """The last user message; what stands before and behind it is not read."""
    before = [{"role": "system", "content": "[7, 8]"}, {"role": "user", "content": "[7, 8] 1030000000000000"}]
    return [*before, {"role": "user", "content": text}, {"role": "assistant", "content": "[7, 9]"}]


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("?", '{"numbers": [30, 100, 93], "target": 23}'),
        ("?", "<reasoning>100 is large.</reasoning>\n<answer>93 + 30 - 100</answer>"),
        ("?", "Thus \\boxed{93+30-100}"),
        ("?", "93 + 30 - 100"),
        ("30,100,93", "23"),
        ("Numbers: [30, 100, 93]\nTarget: 23", "23"),
    ],
)
def test_countdown_numbers_and_target(prompt: str, completion: str) -> None:
    numbers, target = countdown_puzzle(asked(prompt), completion)
    assert (sorted(numbers), target) == ([30, 93, 100], 23)


@pytest.mark.parametrize(
    ("prompt", "completion", "expected"),
    [
        ("Reach 23.", "23", "its prompt has 0 lists"),
        ("Numbers [30, 100, 93]. For example [2, 3, 4].", "23", "its prompt has 2 lists"),
        ("30,100,93", "86+28=114,31-13=18", "finds no puzzle"),
        ("?", '{"numbers": [30, 1.5], "target": 23}', "expected .*whole numbers"),
        ("?", '{"numbers": [30, 100]}', "expected .*whole numbers"),
        ("?", '{"numbers": [true], "target": 23}', "expected .*whole numbers"),
        ("?", '{"numbers": [], "target": 23}', "expected .*whole numbers"),
    ],
)
def test_a_countdown_puzzle_that_is_not_clear_is_refused(prompt: str, completion: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        countdown_puzzle(asked(prompt), completion)


PUZZLE, SOLUTION = "1204430021433412", "1234432121433412"


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("?", json.dumps({"puzzle": PUZZLE, "solution": SOLUTION})),
        (f"Fill 1234 in.\nSolve the following Sudoku puzzle: {PUZZLE}\n", SOLUTION),
        (f"Sudoku {PUZZLE}", f"<reasoning>r</reasoning><answer>\n{SOLUTION}\n</answer>"),
        ("Solve:\n1204\n4300\n2143\n3412", "1234\n4321\n2143\n3412"),
        (f"{'1' * 20} {PUZZLE} 5", f"It was {PUZZLE}, it is {SOLUTION}"),
    ],
)
def test_sudoku_puzzle_and_solution(prompt: str, completion: str) -> None:
    assert sudoku_puzzle(asked(prompt), completion) == PUZZLE
    assert sudoku_solution(completion) == SOLUTION


@pytest.mark.parametrize("puzzle", ["120443002143341", "12044300214334125", "120443002143341x", "", 12])
def test_a_sudoku_puzzle_of_another_form_is_refused(puzzle: object) -> None:
    with pytest.raises(ValueError, match="finds no puzzle"):
        sudoku_puzzle(asked("?"), json.dumps({"puzzle": puzzle}))
    with pytest.raises(ValueError, match="finds no puzzle"):
        sudoku_puzzle(asked(f"Solve {puzzle}"), SOLUTION)


def test_the_puzzles_of_the_data_sets_are_found(shared_data: Path) -> None:
    planning = shared_data / "data" / "planning"
    with (planning / "d1_sudoku4x4_test.csv").open() as file:
        for row in csv.DictReader(file):
            puzzle = sudoku_puzzle(
                asked(f"Solve the following Sudoku puzzle: {row['Puzzle']}\n"), row["Solution"]
            )
            assert (puzzle, sudoku_solution(row["Solution"])) == (row["Puzzle"], row["Solution"])
            assert solves(row["Solution"], puzzle)
    with gzip.open(planning / "dream_sudoku4x4.jsonl.gz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            puzzle = sudoku_puzzle(asked(row["input"]), row["output"])
            assert solves(sudoku_solution(row["output"]), puzzle)
    for line in (planning / "d1_countdown_cd3_test.jsonl").read_text().splitlines():
        row = json.loads(line)
        numbers, target = countdown_puzzle(asked(row["input"]), row["output"])
        assert (",".join(map(str, numbers)), str(target)) == (row["input"], row["output"])
