"""Where an answer stands in a text: its last `<answer>` element, its last `\\boxed{…}`."""

from __future__ import annotations

import re
from typing import Final

_ANSWER: Final = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_BOX: Final = re.compile(r"\\boxed\{")
_BRACE: Final = re.compile("[{}]")


def answer_element(text: str) -> str | None:
    """What the last closed `<answer>` element holds, without white space around; None without one."""
    found = _ANSWER.findall(text)
    return found[-1].strip() if found else None


def boxes(text: str) -> list[str]:
    """What each complete `\\boxed{…}` holds, braces inside it included, in their order."""
    found = (_box_at(text, start.start()) for start in _BOX.finditer(text))
    return [box for box in found if box is not None]


def last_box(text: str) -> str | None:
    """What the last complete `\\boxed{…}` holds; None without one."""
    return next(iter(boxes(text)[-1:]), None)


def _box_at(text: str, start: int) -> str | None:
    """What the box that begins here holds; None where it is not closed."""
    depth, begin = 0, start + len("\\boxed")
    for brace in _BRACE.finditer(text, begin):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[begin + 1 : brace.start()].strip()
    return None


def stated_answer(text: str) -> str | None:
    """The last `<answer>` element, or the box in it; without an element the last box; None without either."""
    element = answer_element(text)
    if element is None:
        return last_box(text)
    boxed = last_box(element)
    return element if boxed is None else boxed
