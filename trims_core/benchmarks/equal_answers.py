"""When two mathematical answers are equal: by their normalised strings.

Source: Hendrycks et al. 2021 (MIT licence), whose normalisation most graders of MATH share; the steps and
their order are those of d1 and EOSER-ASS-RL. Some steps do not apply to every text and then fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from trims_core.benchmarks.numbers import normalised

_NUMBER: Final = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")
_DROPPED: Final = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")


class _DoesNotApplyError(Exception):
    """A step that fails on this text."""


def equal_as_meant(one: str, other: str) -> bool:
    """Equal after all steps that apply, or equal as numbers (`1,000.0`, `1000`)."""
    a, b = (_normalised(text.replace("{,}", ","), _or_same) for text in (one, other))
    both_numbers = _NUMBER.fullmatch(a) is not None and _NUMBER.fullmatch(b) is not None
    return a == b or (both_numbers and normalised(a) == normalised(b))


def equal_as_published(one: str | None, other: str | None) -> bool:
    """The same in the published program: where a step fails the raw texts are compared, and no answer is
    equal to no answer."""
    if one is None or other is None:
        return one is other
    try:
        return _normalised(one, _apply) == _normalised(other, _apply)
    except _DoesNotApplyError:
        return one == other


_Step = Callable[[str], str]


def _apply(step: _Step, text: str) -> str:
    return step(text)


def _or_same(step: _Step, text: str) -> str:
    try:
        return step(text)
    except _DoesNotApplyError:
        return text


def _normalised(text: str, apply: Callable[[_Step, str], str]) -> str:
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for dropped in _DROPPED:
        text = text.replace(dropped, "")
    text = apply(_without_unit, text)
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text[0] == ".":
        text = "0" + text
    name, equals, value = text.partition("=")
    if equals and "=" not in value and len(name) <= 2:
        text = value
    text = apply(_braced_roots, text).replace(" ", "")
    text = apply(_braced_fractions, text)
    return apply(_slash_as_fraction, "\\frac{1}{2}" if text == "0.5" else text)


def _without_unit(text: str) -> str:
    """`5 \\text{ cm}` → `5 `."""
    before, *units = text.split("\\text{ ")
    if len(units) > 1:
        raise _DoesNotApplyError
    return before


def _braced_roots(text: str) -> str:
    """`\\sqrt3` → `\\sqrt{3}`."""
    before, *roots = text.split("\\sqrt")
    if "" in roots:
        raise _DoesNotApplyError
    braced = (root if root[0] == "{" else f"{{{root[0]}}}{root[1:]}" for root in roots)
    return "\\sqrt".join([before, *braced])


def _braced_fractions(text: str) -> str:
    """`\\frac12`, `\\frac1{2}` → `\\frac{1}{2}`; the text as it was where a part is a single character."""
    parts = text.split("\\frac")
    for place, part in enumerate(parts[1:], start=1):
        if not part:
            raise _DoesNotApplyError
        if part[0] == "{":
            continue
        if len(part) < 2:
            return text
        below = part[1:] if part[1] == "{" else f"{{{part[1]}}}{part[2:]}"
        parts[place] = f"{{{part[0]}}}{below}"
    return "\\frac".join(parts)


def _slash_as_fraction(text: str) -> str:
    """`1/2` → `\\frac{1}{2}`, of whole numbers as Python writes them."""
    parts = text.split("/")
    if len(parts) != 2:
        return text
    try:
        above, below = map(int, parts)
    except ValueError as error:
        raise _DoesNotApplyError from error
    return f"\\frac{{{above}}}{{{below}}}" if text == f"{above}/{below}" else text
