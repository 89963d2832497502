"""Sudoku of four rows, in the forms of the published test sets: {"Puzzle", "Solution"} (d1's CSV), {"puzzle",
"solution"}, {"input", "output"} with a row of the grid per line (Dream); 0 is an empty cell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.benchmarks.graders.puzzles import Sudoku as Grader
from trims_core.benchmarks.sudoku_grids import SIZE
from trims_core.raw_rows import Columns, Source, UnusableRowError, id_in, text_in

_PAIRS: Final = (("puzzle", "solution"), ("Puzzle", "Solution"), ("input", "output"))


class Sudoku(Benchmark):
    """Right means: a complete grid that keeps what is given and solves the puzzle; cells count beside."""

    name: ClassVar[str] = "sudoku"
    graders: ClassVar[tuple[str, ...]] = ("sudoku", "sudoku_cells", "d1_sudoku")
    columns: ClassVar[Columns] = Columns((), (*(name for pair in _PAIRS for name in pair), "id", "givens"))
    default_source: ClassVar[Source | None] = None

    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        asked, answer = next((pair for pair in _PAIRS if pair[0] in row), _PAIRS[0])
        puzzle = "".join(text_in(row, asked, 'add it, with "solution"', blank=False).split())
        solution = "".join(text_in(row, answer, blank=False).split())
        gold = json.dumps({"puzzle": puzzle, "solution": solution})
        try:
            Grader().gold_of(gold)
        except ValueError as error:
            raise UnusableRowError(
                str(error), "expected 16 digits from 0 to 4, and their solution from 1 to 4"
            ) from error
        return Problem.asking(
            id_in(row, "id") or f"sudoku-{number:05d}",
            f"Solve the following Sudoku puzzle: {puzzle}",
            gold,
            puzzle=puzzle,
            grid="\n".join(puzzle[start : start + SIZE] for start in range(0, SIZE * SIZE, SIZE)),
            n_givens=str(SIZE * SIZE - puzzle.count("0")),
        )
