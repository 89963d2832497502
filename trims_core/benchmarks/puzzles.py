"""The puzzle of an example: numbers and target, or grid and solution, from the corpus' completion or prompt.

Countdown  completion `{"numbers": [2, 3, 4], "target": 5}`, or a worked expression (in an answer element, a
           box, or alone), or the target alone with the numbers as the one list of the last user message
Sudoku     completion `{"puzzle": "1204…", "solution": "1234…"}`, or a solved grid with the puzzle as the last
           16 digits from 0 to 4 of the last user message
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from trims_core.benchmarks.expressions import read_expression
from trims_core.benchmarks.sudoku_grids import grid_of, puzzle_in
from trims_core.benchmarks.texts import stated_answer

_LIST: Final = re.compile(r"(?<![\d.])\d+(?:\s*,\s*\d+)+(?!\d)")
_TAIL: Final = 60


def countdown_puzzle(
    messages: Sequence[Mapping[str, str]], answer: str
) -> tuple[tuple[int, ...], Fraction | int]:
    """Numbers and target. Raises: ValueError: they are not there."""
    given = _json_of(answer)
    if given is not None:
        numbers, target = given.get("numbers"), given.get("target")
        if not (isinstance(numbers, list) and numbers and all(map(_is_whole, [*numbers, target]))):
            raise ValueError(f'{answer[:_TAIL]!r}: expected {{"numbers": [whole numbers], "target": number}}')
        return tuple(numbers), int(target)  # type: ignore[arg-type]
    stated = stated_answer(answer)
    worked = read_expression(answer if stated is None else stated)
    if worked is not None and len(worked.numbers) > 1:
        return worked.numbers, worked.value
    lists = {tuple(map(int, found.split(","))) for found in _LIST.findall(_asked(messages))}
    if worked is None or len(lists) != 1:
        raise ValueError(
            f"finds no puzzle: the corpus' completion is {answer[-_TAIL:]!r} and its prompt has {len(lists)}"
            ' lists of numbers; expected {"numbers": [2, 3, 4], "target": 5} or a worked expression as'
            " completion, or the target as completion and one list of numbers in the prompt"
        )
    return lists.pop(), worked.value


def sudoku_puzzle(messages: Sequence[Mapping[str, str]], answer: str) -> str:
    """The puzzle's 16 digits, 0 where empty. Raises: ValueError: it is not there."""
    given = _json_of(answer)
    puzzle = puzzle_in(_asked(messages)) if given is None else given.get("puzzle")
    if not isinstance(puzzle, str) or not re.fullmatch("[0-4]{16}", puzzle):
        raise ValueError(
            f"finds no puzzle in the prompt, which ends {_asked(messages)[-_TAIL:]!r}, nor in the corpus'"
            f" completion {answer[:_TAIL]!r}; expected 16 digits from 0 to 4, or"
            ' {"puzzle": …, "solution": …} as completion'
        )
    return puzzle


def sudoku_solution(answer: str) -> str:
    """The solution's 16 digits. Raises: ValueError: it is not there."""
    given = _json_of(answer)
    if given is None:
        stated: object = stated_answer(answer) or puzzle_in(answer)
    else:
        stated = given.get("solution")
    solution = grid_of(stated) if isinstance(stated, str) else None
    if solution is None:
        raise ValueError(
            f"finds no solution in the corpus' completion {answer[-_TAIL:]!r}; expected 16 digits from 1 to 4"
        )
    return solution


def _asked(messages: Sequence[Mapping[str, str]]) -> str:
    """The last user message."""
    return next((turn["content"] for turn in reversed(messages) if turn["role"] == "user"), "")


def _json_of(answer: str) -> dict[str, Any] | None:
    """The object that a completion is; None where it is none."""
    try:
        found = json.loads(answer)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
