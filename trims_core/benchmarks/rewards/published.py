"""Rewards as the published program gives them, faults included, value for value.

Source: EOSER-ASS-RL (commit 5affb4e) `cj-grpo/reward_func.py` and `math500_utils.py`, which are d1's (arXiv
2504.12216); restated. Its `eval` of an expression is not run: the same syntax tree is computed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from trims_core.benchmarks.as_published import CHARACTERS, boxed_last, python_value
from trims_core.benchmarks.equal_answers import equal_as_published
from trims_core.benchmarks.puzzles import countdown_puzzle, sudoku_puzzle, sudoku_solution
from trims_core.benchmarks.sudoku_grids import right_share

Messages = Sequence[Mapping[str, str]]

_SOFT: Final = re.compile(r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>")
_STRICT: Final = re.compile(r"^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$")
_ELEMENT: Final = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def gsm8k_correct(_messages: Messages, completion: str, answer: str) -> float:
    """2 where the answer's text is the corpus' (behind "####", else in its own answer element)."""
    _, mark, behind = answer.partition("####")
    gold = behind.split("####")[0].strip() if mark else _between_tags(answer)
    return 2.0 if _between_tags(completion) == gold else 0.0


def gsm8k_integer(_messages: Messages, completion: str, _answer: str) -> float:
    """0.5 where the answer's text is digits, such as `²`."""
    return 0.5 if _between_tags(completion).isdigit() else 0.0


def gsm8k_strict_format(_messages: Messages, completion: str, _answer: str) -> float:
    """0.5 where each tag has a line of its own, with a single line between them."""
    return 0.5 if _STRICT.match(completion) else 0.0


def gsm8k_soft_format(_messages: Messages, completion: str, _answer: str) -> float:
    """0.5 where reasoning and answer are one line each and the text begins with them."""
    return 0.5 if _SOFT.match(completion) else 0.0


def gsm8k_xml_count(_messages: Messages, completion: str, _answer: str) -> float:
    """0.125 for each of four tags with its line breaks, less 0.001 per character behind the last, twice."""
    count = 0.125 * (completion.count("<reasoning>\n") == 1)
    count += 0.125 * (completion.count("\n</reasoning>\n") == 1)
    if completion.count("\n<answer>\n") == 1:
        count += 0.125
        count -= len(completion.split("\n</answer>\n")[-1]) * 0.001
    if completion.count("\n</answer>") == 1:
        count += 0.125
        count -= (len(completion.split("\n</answer>")[-1]) - 1) * 0.001
    return count


def countdown(messages: Messages, completion: str, answer: str) -> float:
    """1 for a right expression in the last answer element, 0.1 for any other text in one, 0 without one."""
    numbers, target = countdown_puzzle(messages, answer)
    elements = _ELEMENT.findall(completion)
    if not elements:
        return 0.0
    text = elements[-1].strip()
    try:
        if sorted(map(int, re.findall(r"\d+", text))) != sorted(numbers) or not CHARACTERS.match(text):
            return 0.1
        return 1.0 if abs(python_value(text) - target) < 1e-5 else 0.1
    except (ValueError, SyntaxError, TypeError, ArithmeticError, MemoryError, RecursionError):
        return 0.1


def sudoku(messages: Messages, completion: str, answer: str) -> float:
    """Share of the empty cells that are right among the first 16 digits of the last answer element, with 0
    for those that are missing."""
    puzzle, solution = sudoku_puzzle(messages, answer), sudoku_solution(answer)
    elements = _ELEMENT.findall(completion)
    digits = "".join(filter(str.isdigit, elements[-1])) if elements else ""
    return right_share(digits.ljust(16, "0"), puzzle, solution) if digits else 0.0


def math_correct(_messages: Messages, completion: str, answer: str) -> float:
    """2 where the last box, or the whole text without one, is equal to the corpus'.

    Raises:
        TypeError: the corpus' last box is not closed.
    """
    gold = boxed_last(answer)
    if gold is None:
        raise TypeError(f"the box in the corpus' completion is not closed: {answer[-40:]!r}")
    stated = boxed_last(completion)
    return 2.0 if equal_as_published(completion if stated is None else stated, gold) else 0.0


def math_format(_messages: Messages, completion: str, _answer: str) -> float:
    """0.5 for an opened answer element, and 0.25: its box is looked for as a backspace and "oxed", for which
    there would be 0.5."""
    _, opened, behind = completion.partition("<answer>")
    where = behind.partition("<answer>")[0].partition("</answer>")[0] if opened else completion
    return 0.5 * ((1.0 if opened else 0.0) + (1.0 if "\boxed" in where else 0.5))


def _between_tags(text: str) -> str:
    """What stands behind the last `<answer>` and before the first `</answer>` there; else the whole text."""
    return text.split("<answer>")[-1].split("</answer>")[0].strip()
