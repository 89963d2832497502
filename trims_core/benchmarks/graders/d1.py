"""The rules by which d1 and its followers (EOSER, SPG) publish accuracies, faults included.

Source: d1 (arXiv 2504.12216; commit 837888f, Apache-2.0) `eval/parse_and_get_acc.py`, restated; its `eval` of
an expression is not run. Its answers keep end tokens (`<|eot_id|>`, `<|endoftext|>`); where a rule looks for
one, the end of a text from which they were taken does as well.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from trims_core.benchmarks.as_published import CHARACTERS, boxed_last, python_value
from trims_core.benchmarks.equal_answers import equal_as_published
from trims_core.benchmarks.expressions import TOLERANCE
from trims_core.benchmarks.graders.grader import Grader
from trims_core.benchmarks.graders.numbers import Number
from trims_core.benchmarks.graders.puzzles import CountdownGold, SudokuGold
from trims_core.benchmarks.puzzles import countdown_puzzle, sudoku_puzzle, sudoku_solution
from trims_core.benchmarks.sudoku_grids import floors_text, share_of_empty

_BOX: Final = re.compile(r"\\boxed{(.*?)}")
_ELEMENT: Final = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_NUMBER: Final = re.compile(r"-?\d+\.?\d*")
_OPERATORS: Final = ((r"\div", "/"), (r"\times", "*"), (r"\cdot", "*"))
_EQUATION: Final = re.compile(r"([0-9+\-*/() ]+)=[0-9. ]+")
_GRIDS: Final = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<answer>.*?```\s*([\d\s]+)```",
        r"<answer>(.*?)(?:<\|eot_id\|>|<\|endoftext\|>|</answer>|\Z)",
        r"</answer>\s*(.*?)(?:<\|eot_id\|>|<\|endoftext\|>|$)",
        r".*?(\d{16})\s*</answer>",
        r"\b(\d{16})\b",
    )
)


class D1Gsm8k(Number):
    """Numbers are read without thousands commas, and a box ends at the first brace; a negative right answer,
    which the published program's reader of right answers loses, is never met."""

    name: ClassVar[str] = "d1_gsm8k"
    version: ClassVar[int] = 1
    says: ClassVar[str] = (
        "d1: the first number of the first box that holds one, else the first answer element's last number"
    )

    def extract(self, text: str) -> str | None:
        for box in _BOX.findall(text):
            if (value := _number(box.strip(), first=True)) is not None:
                return value
        found = _ELEMENT.search(text)
        return _number(found[1].strip(), first=False) if found else None

    def is_right(self, text: str, gold: str) -> bool:
        return not gold.startswith("-") and self.extract(text) == _as_float(gold)


class D1Math(Grader):
    """Without any box the whole text is the answer; where normalising fails, raw texts are compared."""

    name: ClassVar[str] = "d1_math"
    version: ClassVar[int] = 1
    says: ClassVar[str] = "d1: the last box, else the answer element; equal after Hendrycks' normalising"

    def extract(self, text: str) -> str | None:
        boxed = boxed_last(text)
        return boxed if boxed else _first_element(text)

    def is_right(self, text: str, gold: str) -> bool:
        found = self.extract(text)
        return found is not None and equal_as_published(found, gold)

    def gold_of(self, answer: str) -> str | None:
        return answer.strip() or None


class D1Countdown(CountdownGold):
    """Without box and answer element the whole text is the answer; of an equation the left side counts."""

    name: ClassVar[str] = "d1_countdown"
    version: ClassVar[int] = 1
    says: ClassVar[str] = "d1: the expression in the last box, else in the answer element, as Python reads it"

    def extract(self, text: str) -> str | None:
        found = boxed_last(text)
        if found is None:
            element = _first_element(text)
            found = text if element is None else element
        for latex, plain in _OPERATORS:
            found = found.replace(latex, plain)
        equation = _EQUATION.search(found)
        return equation[1].strip() if equation else found

    def is_right(self, text: str, gold: str) -> bool:
        numbers, target = countdown_puzzle((), gold)
        found = self.extract(text) or ""
        try:
            used = sorted(map(int, re.findall(r"\d+", found)))
            if used != sorted(numbers) or not CHARACTERS.match(found):
                return False
            return bool(abs(python_value(found.strip()) - target) < TOLERANCE)
        except (ValueError, SyntaxError, TypeError, ArithmeticError, MemoryError, RecursionError):
            return False


class D1Sudoku(SudokuGold):
    """Right where every empty cell is; the share of right cells is what d1 publishes.

    Whatever stands in the answer element is cut or filled to 16 characters, words included.
    """

    name: ClassVar[str] = "d1_sudoku"
    version: ClassVar[int] = 1
    says: ClassVar[str] = "d1: the answer element's first 16 characters, else a word of 16 digits; by cell"
    floors: ClassVar[str | None] = floors_text()

    def extract(self, text: str) -> str | None:
        for pattern in _GRIDS:
            found = pattern.search(text)
            if found and found[1].strip():
                return re.sub(r"\s", "", found[1])[:16]
        return None

    def is_right(self, text: str, gold: str) -> bool:
        n_right, n_empty = self.share(text, gold)
        return n_right == n_empty

    def share(self, text: str, gold: str) -> tuple[int, int]:
        cells = (self.extract(text) or "").ljust(16, "0")
        return share_of_empty(cells, sudoku_puzzle((), gold), sudoku_solution(gold))


def _number(text: str, *, first: bool) -> str | None:
    """The number that a text is, else the first or last one in it."""
    for candidate in (text, *_NUMBER.findall(text)[slice(0, 1) if first else slice(-1, None)]):
        if (value := _as_float(candidate)) is not None:
            return value
    return None


def _as_float(text: str) -> str | None:
    """The number as Python reads it, in a form that is equal where floats are; None where it reads none."""
    try:
        return repr(float(text) + 0.0).removesuffix(".0")
    except ValueError:
        return None


def _first_element(text: str) -> str | None:
    found = _ELEMENT.search(text)
    return found[1].strip() if found else None
