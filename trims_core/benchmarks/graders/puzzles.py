"""Exact graders of Countdown and Sudoku: right answers are checked by the puzzle's rules, not by a solution.

A right answer is JSON: `{"numbers": [2, 3, 4], "target": 5}`; `{"puzzle": "1204…", "solution": "1234…"}` with
16 digits each, 0 for an empty cell.
"""

from __future__ import annotations

from typing import ClassVar

from trims_core.benchmarks.expressions import read_expression, read_steps
from trims_core.benchmarks.graders.grader import Grader
from trims_core.benchmarks.puzzles import countdown_puzzle, sudoku_puzzle, sudoku_solution
from trims_core.benchmarks.sudoku_grids import floors_text, share_of_empty, solves, stated_grid
from trims_core.benchmarks.texts import stated_answer


class CountdownGold(Grader):
    """What graders of Countdown have in common: no completion says which numbers were given."""

    finds_gold: ClassVar[bool] = False

    def gold_of(self, answer: str) -> str | None:
        countdown_puzzle((), answer)
        return answer


class Countdown(CountdownGold):
    """The value is computed exactly; nothing is run."""

    name: ClassVar[str] = "countdown"
    version: ClassVar[int] = 1
    says: ClassVar[str] = "the expression in the answer element or box: each number once, the target to 1e-5"

    def extract(self, text: str) -> str | None:
        return stated_answer(text)

    def is_right(self, text: str, gold: str) -> bool:
        numbers, target = countdown_puzzle((), gold)
        found = read_expression(self.extract(text) or "")
        return found is not None and found.solves(numbers, target)


class CountdownSteps(CountdownGold):
    """`44-15=29,79-29=50`: each step uses up two of what there is and adds its result.

    Stricter than Dream's own metric, which counts all operands together, so that a step may use the result of
    a later one. Source of the form: Dream (commit fac0a7f, Apache-2.0) `eval/cd_metric.py`.
    """

    name: ClassVar[str] = "countdown_steps"
    version: ClassVar[int] = 1
    says: ClassVar[str] = "steps a+b=c,… in the answer element or box, else the first line: all true and used"

    def extract(self, text: str) -> str | None:
        stated = stated_answer(text)
        return next(iter(text.strip().splitlines()), None) if stated is None else stated

    def is_right(self, text: str, gold: str) -> bool:
        numbers, target = countdown_puzzle((), gold)
        found = read_steps(self.extract(text) or "")
        return found is not None and found.solves(numbers, target)


class SudokuGold(Grader):
    """What graders of Sudoku have in common: no completion says which cells were given."""

    finds_gold: ClassVar[bool] = False

    def gold_of(self, answer: str) -> str | None:
        puzzle, solution = sudoku_puzzle((), answer), sudoku_solution(answer)
        if not solves(solution, puzzle):
            raise ValueError(f"{solution} does not solve the puzzle {puzzle}")
        return answer


class Sudoku(SudokuGold):
    """Any grid that solves the puzzle is right, whichever solution the data set has."""

    name: ClassVar[str] = "sudoku"
    version: ClassVar[int] = 1
    says: ClassVar[str] = "the complete grid in the answer element or box, else the last 16 digits: it solves"

    def extract(self, text: str) -> str | None:
        return stated_grid(text)

    def is_right(self, text: str, gold: str) -> bool:
        grid = self.extract(text)
        return grid is not None and solves(grid, sudoku_puzzle((), gold))


class SudokuCells(Sudoku):
    """The same verdict; a text without a complete grid has no cell right."""

    name: ClassVar[str] = "sudoku_cells"
    says: ClassVar[str] = "the same grid, and how many of the empty cells are the solution's"
    floors: ClassVar[str | None] = floors_text()

    def share(self, text: str, gold: str) -> tuple[int, int]:
        grid = self.extract(text) or "0" * 16
        return share_of_empty(grid, sudoku_puzzle((), gold), sudoku_solution(gold))
