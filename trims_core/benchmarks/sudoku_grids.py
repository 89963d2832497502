"""4×4 Sudoku grids in texts, as 16 digits from left to right and top to bottom; 0 is an empty cell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from trims_core.benchmarks.texts import stated_answer

SIZE: Final = 4
FLOORS: Final[Mapping[str, float]] = {
    "one digit everywhere": 0.25,
    "each row's missing digits in order": 0.487,
    "one pass of elimination": 0.774,
}
"""Shares of the empty cells that are right without any thought, on 256 puzzles with 8 empty cells each (d1's
test set). The last one solves 11.3 % of the puzzles; one digit everywhere gives 24 to 26 %, by digit."""

_CELLS: Final = range(SIZE * SIZE)
_GROUPS: Final = tuple(
    frozenset(cell for cell in _CELLS if group_of(cell) == group)
    for group_of in (
        lambda cell: cell // 4,
        lambda cell: cell % 4,
        lambda cell: cell // 8 * 2 + cell % 4 // 2,
    )
    for group in range(SIZE)
)
"""Cells of each row, column and box."""
_PUZZLE: Final = re.compile(r"(?<!\d)(?:[0-4]{16}|(?:[0-4]{4}[ \t]*\r?\n[ \t]*){3}[0-4]{4})(?!\d)")
_BETWEEN_CELLS: Final = re.compile(r"[\s|,;+\-\[\]()]")


def puzzle_in(text: str) -> str | None:
    """The last puzzle of a text: 16 digits from 0 to 4 in one word, or four lines of four; None without."""
    found = _PUZZLE.findall(text)
    return "".join(found[-1].split()) if found else None


def grid_of(text: str) -> str | None:
    """The complete grid that a text is, whatever separates its cells; None for anything more or less."""
    cells = _BETWEEN_CELLS.sub("", text)
    return cells if re.fullmatch("[1-4]{16}", cells) else None


def stated_grid(text: str) -> str | None:
    """The complete grid that a text states; without an answer element or box its last word of 16 digits."""
    return grid_of(stated_answer(text) or puzzle_in(text) or "")


def solves(grid: str, puzzle: str) -> bool:
    """Whether a complete grid keeps what is given and has every digit once per row, column and box."""
    kept = all(given in ("0", cell) for given, cell in zip(puzzle, grid, strict=True))
    return kept and all(len({grid[cell] for cell in group}) == SIZE for group in _GROUPS)


def share_of_empty(grid: str, puzzle: str, solution: str) -> tuple[int, int]:
    """In how many of the puzzle's empty cells a grid is the solution, and how many are empty."""
    empty = [cell for cell in _CELLS if puzzle[cell] == "0"]
    return sum(grid[cell] == solution[cell] for cell in empty), len(empty)


def right_share(grid: str, puzzle: str, solution: str) -> float:
    """Share of the puzzle's empty cells in which a grid is the solution; 0 where none is empty."""
    n_right, n_empty = share_of_empty(grid, puzzle, solution)
    return n_right / n_empty if n_empty else 0.0


def floors_text() -> str:
    """For a card: what the cell share is without any thought."""
    named = ", ".join(f"{name} {100 * share:.1f} %" for name, share in FLOORS.items())
    return f"floors of the cell share on d1's 256 puzzles: {named} (solving 11.3 % of the puzzles)"
