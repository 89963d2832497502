"""Arithmetic expressions as answers: the numbers in them and their exact value, read without running them.

Covered: + − * / and parentheses over whole numbers, signs, the same in LaTeX (`\\times`, `\\frac{a}{b}`).
Steps, `44-15=29,79-29=50`: the same with whole numbers on both sides, each step's result for later ones.
Not covered, and no expression: decimals, powers, `//`, an equals sign, two numbers side by side.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

_NOTATION: Final = (
    (re.compile(r"\\left|\\right|\\[()\[\]]|\$"), " "),
    (re.compile(r"\\times|\\cdot|[×·]"), "*"),
    (re.compile(r"\\div|÷"), "/"),
    (re.compile("[−–]"), "-"),
)
_FRACTION: Final = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_TOKEN: Final = re.compile(r"\s*([0-9]+|[-+*/()])\s*")
_WHOLE: Final = re.compile("-?[0-9]{1,50}")
_LONGEST: Final = 500
_DEEPEST: Final = 50
TOLERANCE: Final = Fraction(1, 100_000)
"""Values closer than this are equal, as in the published graders."""


@dataclass(frozen=True)
class Expression:
    """What was read."""

    numbers: tuple[int, ...]
    """As they stand, from left to right."""
    value: Fraction

    def solves(self, numbers: Sequence[int], target: Fraction | int) -> bool:
        """Whether it uses each of these numbers exactly once, and no other, and gives the target."""
        return sorted(self.numbers) == sorted(numbers) and abs(self.value - target) < TOLERANCE


@dataclass(frozen=True)
class Steps:
    """What was read of a chain of steps."""

    steps: tuple[tuple[Expression, int], ...]
    """Each with the result that it states."""

    def solves(self, numbers: Sequence[int], target: Fraction | int) -> bool:
        """Whether every step is true and uses two of what there is, given or a result, and in the end the
        target alone is left."""
        left = Counter(numbers)
        for step, result in self.steps:
            left.subtract(step.numbers)
            if min(left.values()) < 0 or not step.solves(step.numbers, result):
                return False
            left[result] += 1
        rest = list(left.elements())
        return len(rest) == 1 and abs(Fraction(rest[0]) - target) < TOLERANCE


def read_steps(text: str) -> Steps | None:
    """The steps that a text is as a whole, separated by commas or lines; None where it is anything else."""
    found = []
    for line in re.split(r"[,;\n]", text.strip()):
        left, equals, right = line.partition("=")
        step = read_expression(left)
        if not equals or step is None or len(step.numbers) != 2 or not _WHOLE.fullmatch(right.strip()):
            return None
        found.append((step, int(right)))
    return Steps(tuple(found))


def read_expression(text: str) -> Expression | None:
    """The expression that a text is as a whole; None where it is none, or divides by zero."""
    for pattern, plain in _NOTATION:
        text = pattern.sub(plain, text)
    while (plain := _FRACTION.sub(r"((\1)/(\2))", text)) != text:
        text = plain
    if not text.strip() or len(text) > _LONGEST or text.count("(") > _DEEPEST:
        return None
    tokens, end = [], 0
    while end < len(text):
        found = _TOKEN.match(text, end)
        if found is None:
            return None
        tokens.append(found[1])
        end = found.end()
    try:
        value = _Reader(tokens).whole()
    except (_NoExpressionError, ZeroDivisionError):
        return None
    return Expression(tuple(int(token) for token in tokens if token.isdigit()), value)


class _NoExpressionError(Exception):
    """The tokens are no expression."""


class _Reader:
    """A sum is products, a product factors, a factor a number or a sum in parentheses, with signs before."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._next = 0

    def whole(self) -> Fraction:
        """The value of all tokens together."""
        value = self._sum()
        if self._next < len(self._tokens):
            raise _NoExpressionError
        return value

    def _take(self, wanted: str) -> str | None:
        """The next token, taken, where it is one of these characters."""
        token = self._tokens[self._next] if self._next < len(self._tokens) else ""
        if not token or token not in wanted:
            return None
        self._next += 1
        return token

    def _sum(self) -> Fraction:
        value = self._product()
        while sign := self._take("+-"):
            value = value + self._product() if sign == "+" else value - self._product()
        return value

    def _product(self) -> Fraction:
        value = self._factor()
        while sign := self._take("*/"):
            value = value * self._factor() if sign == "*" else value / self._factor()
        return value

    def _factor(self) -> Fraction:
        negative = False
        while sign := self._take("+-"):
            negative ^= sign == "-"
        if self._take("("):
            value = self._sum()
            if not self._take(")"):
                raise _NoExpressionError
        elif self._next < len(self._tokens) and self._tokens[self._next].isdigit():
            value = Fraction(int(self._tokens[self._next]))
            self._next += 1
        else:
            raise _NoExpressionError
        return -value if negative else value
