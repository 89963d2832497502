"""Expressions are read exactly, without running them, and nothing else is one."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from trims_core.benchmarks.expressions import Expression, read_expression


@pytest.mark.parametrize(
    ("text", "numbers", "value"),
    [
        ("2*4-3", (2, 4, 3), Fraction(5)),
        (" ( 10 - 4 ) / 3 ", (10, 4, 3), Fraction(2)),
        ("10/3*3", (10, 3, 3), Fraction(10)),
        ("8-3-2", (8, 3, 2), Fraction(3)),
        ("8/4/2", (8, 4, 2), Fraction(1)),
        ("-2--3", (2, 3), Fraction(1)),
        ("2*-3", (2, 3), Fraction(-6)),
        ("--2", (2,), Fraction(2)),
        ("\\(2 \\times 4\\) − 3", (2, 4, 3), Fraction(5)),
        ("\\dfrac{1}{\\frac{2}{3}}", (1, 2, 3), Fraction(3, 2)),
        ("08+2", (8, 2), Fraction(10)),
        ("7", (7,), Fraction(7)),
    ],
)
def test_an_expression_has_its_numbers_and_its_value(
    text: str, numbers: tuple[int, ...], value: Fraction
) -> None:
    assert read_expression(text) == Expression(numbers, value)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "2 3", "2+", "*2", "(2", "2)", "()", "2**3", "2//3", "2=2", "2.5", "x", "4(2)", "1/0"),
        *("1/(2-2)", "__import__('os')", "2;3", "²", "٢+1", "\\frac{1}"),
        *("(" * 60 + "1" + ")" * 60, "1" + "+1" * 400),
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert read_expression(text) is None


def test_it_agrees_with_python_on_random_expressions() -> None:
    draw = random.Random(5)

    def some(depth: int) -> str:
        if depth == 0 or draw.random() < 0.3:
            return str(draw.randint(0, 12))
        text = some(depth - 1) + draw.choice("+-*/") + some(depth - 1)
        return f"({text})" if draw.random() < 0.5 else text

    n_divided = 0
    for _ in range(500):
        text = some(4)
        exact = "".join(f"Fraction({part})" if part.isdigit() else part for part in _parts(text))
        try:
            expected = eval(exact, {"Fraction": Fraction})
        except ZeroDivisionError:
            n_divided += 1
            assert read_expression(text) is None
            continue
        found = read_expression(text)
        assert found is not None
        assert found.value == expected, text
    assert n_divided


def _parts(text: str) -> list[str]:
    for sign in "+-*/()":
        text = text.replace(sign, f" {sign} ")
    return text.split()


def test_a_puzzle_is_solved_by_its_numbers_each_once_and_the_target_within_1e_5() -> None:
    found = read_expression("10/3")
    assert found is not None
    assert found.solves([3, 10], Fraction(10, 3))
    assert found.solves([3, 10], Fraction(10, 3) + Fraction(1, 100_001))
    assert not found.solves([3, 10], Fraction(10, 3) - Fraction(1, 100_000))
    assert not found.solves([3, 3, 10], Fraction(10, 3))
    assert not found.solves([10], Fraction(10, 3))
