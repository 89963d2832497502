"""Intervals and AUP against textbook and published values."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trims_core.curves import accuracy_at, aups, mean_accuracy, wilson_interval

CURVES = arrays(float, (4, 5), elements=st.integers(10, 80).map(lambda tenth: tenth / 10))
"""Tokens per forward of four curves of five points, ties among them."""
ACCURACIES = arrays(float, (4, 5), elements=st.integers(0, 100).map(lambda percent: percent / 100))


def test_wilson_gives_the_textbook_interval() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(29, 29)[1] == 1.0


@given(n=st.integers(1, 5000), share=st.floats(0, 1))
def test_wilson_contains_the_fraction_and_stays_inside_zero_and_one(n: int, share: float) -> None:
    low, high = wilson_interval(share * n, n)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_impossible_counts(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="expected 0 ≤ successes ≤ n"):
        wilson_interval(k, n)


def aup(points: list[tuple[float, float]], y_max: float) -> float:
    """`aups` of one curve."""
    return float(aups(*np.array([points]).transpose(2, 0, 1), np.array([y_max]))[0])


def slow_aup(points: list[tuple[float, float]], y_max: float) -> float:
    """The published formula, point by point."""
    if y_max <= 0:
        return 0.0
    ordered = sorted(points)
    kept = [(x, y) for x, y in ordered if y >= ordered[0][1] - 5.0]
    weighted = [(x, y * min(math.exp(-3.0 * (1 - y / y_max)), 1.0)) for x, y in kept]
    steps = itertools.pairwise(weighted)
    return kept[0][0] * kept[0][1] + sum(0.5 * (x1 - x0) * (y1 + y0) for (x0, y0), (x1, y1) in steps)


def test_aup_equals_every_published_value(shared_data: Path) -> None:
    published = json.loads((shared_data / "oracles/aup_values.json").read_text())
    checked = 0
    for task in published.values():
        for method, points in task["points"].items():
            found = aup(points, task["y_max"])
            assert found == pytest.approx(task["aup"][method], abs=1e-4), method
            checked += 1
    assert checked == 18


def test_aup_of_the_published_gsm8k_points() -> None:
    assert aup([(1.0, 74.79), (2.77, 74.68)], 74.98) == pytest.approx(205.78, abs=5e-3)
    assert aup([(1.0, 74.02), (9.11, 73.09)], 74.98) == pytest.approx(637.65, abs=5e-3)


def test_aup_drops_points_five_points_below_the_first_and_ignores_their_order() -> None:
    kept = [(1.0, 80.0), (2.0, 76.0), (4.0, 79.0)]
    assert aup([(3.0, 74.9), *kept[::-1]], 80.0) == aup(kept, 80.0)
    assert aup([*kept, (3.0, 75.0)], 80.0) != aup(kept, 80.0)


def test_aup_of_nothing_right_is_zero() -> None:
    assert aup([(1.0, 0.0), (3.0, 0.0)], 0.0) == 0.0


@given(
    tpf_RT=CURVES, accuracy_RT=ACCURACIES, best_R=arrays(float, 4, elements=st.just(0.0) | st.floats(20, 100))
)
def test_aup_of_many_curves_is_the_formula_of_each(tpf_RT, accuracy_RT, best_R) -> None:
    percent_RT = 100 * accuracy_RT
    slow = [
        slow_aup(list(zip(x.tolist(), y.tolist(), strict=True)), float(best))
        for x, y, best in zip(tpf_RT, percent_RT, best_R, strict=True)
    ]
    np.testing.assert_allclose(aups(tpf_RT, percent_RT, best_R), slow, rtol=1e-12)


def slow_accuracy(level: float, points: list[tuple[float, float]]) -> float:
    """Walks along one curve to the pair of points around a level."""
    points = sorted(points)
    if level < points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 <= level < x1:
            return y0 + (y1 - y0) * (level - x0) / (x1 - x0)
    return points[-1][1]


@settings(deadline=None)
@given(tpf_RT=CURVES, accuracy_RT=ACCURACIES, level=st.floats(0.5, 9))
def test_accuracy_at_a_level_lies_on_the_line_between_its_neighbours(tpf_RT, accuracy_RT, level) -> None:
    found = accuracy_at([level, 2.0], tpf_RT, accuracy_RT)
    assert found.shape == (4, 2)
    for row, x, y in zip(found, tpf_RT, accuracy_RT, strict=True):
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        assert row == pytest.approx([slow_accuracy(level, points), slow_accuracy(2.0, points)], abs=1e-9)


@settings(deadline=None)
@given(tpf_RT=CURVES, accuracy_RT=ACCURACIES, low=st.floats(1, 4), width=st.floats(0.1, 4))
def test_mean_accuracy_is_the_mean_of_many_levels(tpf_RT, accuracy_RT, low, width) -> None:
    found = mean_accuracy(low, low + width, tpf_RT, accuracy_RT)
    middles = low + width * (np.arange(500) + 0.5) / 500
    for mean, x, y in zip(found, tpf_RT, accuracy_RT, strict=True):
        order = np.lexsort((y, x))
        assert mean == pytest.approx(np.interp(middles, x[order], y[order]).mean(), abs=5e-3)
    assert (found >= accuracy_RT.min(axis=1) - 1e-12).all()
    assert (found <= accuracy_RT.max(axis=1) + 1e-12).all()


def test_mean_accuracy_of_a_trapezium_is_exact() -> None:
    tpf_RT, accuracy_RT = np.array([[4.0, 1.0, 2.0]]), np.array([[0.2, 0.8, 0.6]])
    # own derivation: (0.7 + 0.6)/2 · 0.5 + (0.6 + 0.4)/2 · 1, over 1.5
    assert mean_accuracy(1.5, 3.0, tpf_RT, accuracy_RT) == pytest.approx([0.55])
    # beyond the last point the curve is constant: (0.4 + 0.2)/2 · 1 + 0.2 · 1, over 2
    assert mean_accuracy(3.0, 5.0, tpf_RT, accuracy_RT) == pytest.approx([0.25])


def test_the_mean_over_nothing_is_an_error_and_no_level_is_no_column() -> None:
    curve = np.ones((2, 3))
    with pytest.raises(ValueError, match="expected a range that is not empty"):
        mean_accuracy(2.0, 2.0, curve, curve)
    assert accuracy_at([], curve, curve).shape == (2, 0)
