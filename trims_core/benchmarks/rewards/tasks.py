"""Rewards as they should be: 1 for a right answer, 0 for a wrong one; what only its form earns is apart.

Each is a function of (messages, completion, answer): the conversation, the student's text, the corpus' own
completion, in which the right answer or the puzzle stands. Where it does not, they raise ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from trims_core.benchmarks.equal_answers import equal_as_meant
from trims_core.benchmarks.expressions import read_expression
from trims_core.benchmarks.graders.numbers import Gsm8kNumber, LastAnswerSentence
from trims_core.benchmarks.numbers import last_number
from trims_core.benchmarks.puzzles import countdown_puzzle, sudoku_puzzle, sudoku_solution
from trims_core.benchmarks.sudoku_grids import right_share, solves, stated_grid
from trims_core.benchmarks.texts import answer_element, last_box, stated_answer

Messages = Sequence[Mapping[str, str]]

_TAGS: Final = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
_IN_ORDER: Final = re.compile(r"\s*<reasoning>.*</reasoning>\s*<answer>.*</answer>\s*", re.DOTALL)
_TAIL: Final = 40


def demo(_messages: Messages, completion: str, answer: str) -> float:
    """Whether the number in the last sentence "The answer is N." is the corpus'."""
    extract = LastAnswerSentence().extract
    return float(extract(completion) == _found(extract(answer), "The answer is N.", answer))


def gsm8k(_messages: Messages, completion: str, answer: str) -> float:
    """Whether the number is the corpus', after `1,234.0` → `1234`: the last one of the answer element, else
    of the last box, else the one behind "####", else the text's last."""
    return float(_number(completion) == _found(_number(answer), "a number", answer))


def tags(_messages: Messages, completion: str, _answer: str) -> float:
    """1/8 for each of the four tags that stands exactly once, and 1/2 for a text that is
    `<reasoning>…</reasoning><answer>…</answer>` with them and nothing but white space around."""
    once = [completion.count(tag) == 1 for tag in _TAGS]
    return sum(once) / 8 + 0.5 * (all(once) and _IN_ORDER.fullmatch(completion) is not None)


def math(_messages: Messages, completion: str, answer: str) -> float:
    """Whether the answer element, or the box in it, else the last box, is equal to the corpus'."""
    gold = _found(stated_answer(answer), "a complete \\boxed{…} or <answer>…</answer>", answer)
    stated = stated_answer(completion)
    return float(stated is not None and equal_as_meant(stated, gold))


def math_format(_messages: Messages, completion: str, _answer: str) -> float:
    """1/2 for an answer element, 1/2 for a complete box in it (without an element: anywhere)."""
    element = answer_element(completion)
    boxed = last_box(completion if element is None else element)
    return 0.5 * (element is not None) + 0.5 * (boxed is not None)


def countdown(messages: Messages, completion: str, answer: str) -> float:
    """Whether the stated expression uses each of the puzzle's numbers once and gives its target."""
    numbers, target = countdown_puzzle(messages, answer)
    found = read_expression(stated_answer(completion) or "")
    return float(found is not None and found.solves(numbers, target))


def countdown_format(_messages: Messages, completion: str, _answer: str) -> float:
    """Whether the stated answer is an expression, right or wrong."""
    return float(read_expression(stated_answer(completion) or "") is not None)


def sudoku(messages: Messages, completion: str, answer: str) -> float:
    """Whether the stated grid solves the whole puzzle."""
    grid, puzzle = stated_grid(completion), sudoku_puzzle(messages, answer)
    return float(grid is not None and solves(grid, puzzle))


def sudoku_cells(messages: Messages, completion: str, answer: str) -> float:
    """Share of the empty cells that are right in a complete stated grid."""
    grid, puzzle = stated_grid(completion), sudoku_puzzle(messages, answer)
    solution = sudoku_solution(answer)
    if not solves(solution, puzzle):
        raise ValueError(f"the corpus' completion holds {solution}, which does not solve the puzzle {puzzle}")
    return 0.0 if grid is None else right_share(grid, puzzle, solution)


def _number(text: str) -> str | None:
    stated = stated_answer(text)
    return Gsm8kNumber().extract(text) if stated is None else last_number(stated)


def _found(gold: str | None, expected: str, answer: str) -> str:
    if gold is None:
        raise ValueError(
            f"finds no answer in the corpus' completion, which ends {answer[-_TAIL:]!r}; expected {expected}"
        )
    return gold
