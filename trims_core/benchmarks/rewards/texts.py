"""Where an answer stands in a text: its last `<answer>` element, its last `\\boxed{…}`."""

from __future__ import annotations

import re
from typing import Final

_ANSWER: Final = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_BOX: Final = "\\boxed{"


def answer_element(text: str) -> str | None:
    """What the last closed `<answer>` element holds, without white space around; None without one."""
    found = _ANSWER.findall(text)
    return found[-1].strip() if found else None


def last_box(text: str) -> str | None:
    """What the last complete `\\boxed{…}` holds, braces inside it included; None without one."""
    start = text.rfind(_BOX)
    while start >= 0:
        depth = 0
        for place in range(start + len(_BOX) - 1, len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if depth == 0:
                return text[start + len(_BOX) : place].strip()
        start = text.rfind(_BOX, 0, start)
    return None


def stated_answer(text: str) -> str | None:
    """The last `<answer>` element, or the box in it; without an element the last box; None without either."""
    element = answer_element(text)
    if element is None:
        return last_box(text)
    boxed = last_box(element)
    return element if boxed is None else boxed
