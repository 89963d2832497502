"""Grids in texts, and that the floors of the cell share are what the test set gives."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trims_core.benchmarks.sudoku_grids import FLOORS, floors_text, puzzle_in, right_share, solves

Guess = Callable[[str], str]


@pytest.fixture(scope="module")
def puzzles(shared_data: Path) -> list[tuple[str, str]]:
    with gzip.open(shared_data / "data" / "llada_outputs" / "sudoku_gen256.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    found = [(puzzle_in(row["question"]) or "", row["ground_truth"]) for row in rows]
    assert (len(found), {puzzle.count("0") for puzzle, _ in found}) == (256, {8})
    return found


def share(puzzles: list[tuple[str, str]], guess: Guess) -> float:
    return sum(right_share(guess(puzzle), puzzle, solution) for puzzle, solution in puzzles) / len(puzzles)


def missing_in_order(puzzle: str) -> str:
    """Each row's missing digits, from left to right."""
    filled = ""
    for row in (puzzle[place : place + 4] for place in range(0, 16, 4)):
        missing = iter(sorted(set("1234") - set(row)))
        filled += "".join(next(missing) if cell == "0" else cell for cell in row)
    return filled


def eliminated(puzzle: str) -> str:
    """In each cell the smallest digit that its row, column and box do not give."""

    def sees(one: int, other: int) -> bool:
        (r, c), (s, d) = divmod(one, 4), divmod(other, 4)
        return r == s or c == d or (r // 2, c // 2) == (s // 2, d // 2)

    def digit(cell: int) -> str:
        seen = {puzzle[other] for other in range(16) if sees(cell, other)}
        return puzzle[cell] if puzzle[cell] != "0" else min(set("1234") - seen)

    return "".join(map(digit, range(16)))


def test_the_floors_are_those_of_the_test_set(puzzles: list[tuple[str, str]]) -> None:
    same = [share(puzzles, lambda _puzzle, digit=digit: digit * 16) for digit in "1234"]  # type: ignore[misc]
    assert [round(one, 2) for one in (min(same), max(same))] == [0.24, 0.26]
    assert FLOORS["one digit everywhere"] == pytest.approx(sum(same) / 4, abs=0.001)
    assert FLOORS["each row's missing digits in order"] == pytest.approx(
        share(puzzles, missing_in_order), abs=5e-4
    )
    assert FLOORS["one pass of elimination"] == pytest.approx(share(puzzles, eliminated), abs=5e-4)
    n_solved = sum(solves(eliminated(puzzle), puzzle) for puzzle, _ in puzzles)
    assert f"solving {100 * n_solved / 256:.1f} % of the puzzles" in floors_text()


def test_every_solution_of_the_test_set_solves_its_puzzle(puzzles: list[tuple[str, str]]) -> None:
    assert all(solves(solution, puzzle) for puzzle, solution in puzzles)


def test_a_grid_keeps_what_is_given_and_repeats_nothing() -> None:
    grid = "1234341221434321"
    assert solves(grid, "1000000000000000")
    assert not solves(grid, "2000000000000000")
    assert not solves("1234123412341234", "0" * 16)  # columns
    assert not solves("1111222233334444", "0" * 16)  # rows
    assert not solves("1234234134124123", "0" * 16)  # boxes
    assert right_share(grid, grid, grid) == 0.0
