"""Pieces of the published programs that rewards and graders share, value for value.

Source: d1 (arXiv 2504.12216; commit 837888f, Apache-2.0), whose `eval` of an expression is not run here: the
same syntax tree is computed.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

CHARACTERS: Final = re.compile(r"^[\d+\-*/().\s]+$")
_OPERATORS: Final[Mapping[type, Callable[..., Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_BITS: Final = 1 << 20
"""Of the largest power that is computed; the published program would try them all."""


def python_value(text: str) -> Any:
    """What `eval` would give. Raises: TypeError, ValueError: no number, or one that is too large."""
    return _computed(ast.parse(text, mode="eval").body)


def _computed(node: ast.expr) -> Any:
    match node:
        case ast.Constant(int() | float() as value):
            return value
        case ast.UnaryOp(op, operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_computed(operand))
        case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
            base, other = _computed(left), _computed(right)
            whole = isinstance(base, int) and isinstance(other, int)
            if isinstance(op, ast.Pow) and whole and base.bit_length() * other > _BITS:
                raise ValueError("the power is too large")
            return _OPERATORS[type(op)](base, other)
    raise TypeError(f"{type(node).__name__} is no arithmetic")


def boxed_last(text: str) -> str | None:
    """What the last `\\boxed` holds; the whole text without one, None where it is not closed."""
    if "\\boxed " in text:
        return text.split("\\boxed ")[-1].split("$")[0]
    start = text.rfind("\\boxed")
    if start < 0:
        start = text.rfind("\\fbox")
    if start < 0:
        return text
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if text[place] == "}" and depth == 0:
            found = text[start : place + 1]
            return found[len("\\boxed{") : -1] if found.startswith("\\boxed{") else found
    return None
