"""Intervals, AUP, fronts and paired tests against slow or published values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.curves import (
    accuracy_at,
    aup,
    paired_bootstrap,
    pareto_front,
    tokens_per_forward,
    wilson_interval,
)


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


def test_aup_equals_every_published_value(shared_data: Path) -> None:
    published = json.loads((shared_data / "oracles/aup_values.json").read_text())
    checked = 0
    for task in published.values():
        for method, points in task["points"].items():
            found = aup([(x, y) for x, y in points], task["y_max"])
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


def test_aup_of_nothing_right_is_zero_and_of_no_points_an_error() -> None:
    assert aup([(1.0, 0.0), (3.0, 0.0)], 0.0) == 0.0
    with pytest.raises(ValueError, match="no points"):
        aup([], 80.0)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_front_is_what_no_point_beats_in_both(points: list[tuple[int, int]]) -> None:
    front = [points[i] for i in pareto_front([(float(x), float(y)) for x, y in points])]

    def beaten(p: tuple[int, int]) -> bool:
        return any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points)

    assert set(front) == {p for p in points if not beaten(p)}
    assert len(front) == len(set(front))
    assert front == sorted(front)


def test_accuracy_between_points_is_linear_and_never_extrapolated() -> None:
    points = [(4.0, 0.4), (1.0, 0.8), (2.0, 0.6), (2.0, 0.8)]
    assert accuracy_at(points, 1.0) == 0.8
    assert accuracy_at(points, 1.5) == pytest.approx(0.75)
    assert accuracy_at(points, 3.0) == pytest.approx(0.55)
    assert accuracy_at(points, 0.99) is None
    assert accuracy_at(points, 4.01) is None
    assert accuracy_at([], 1.0) is None


def test_tokens_per_forward_is_a_ratio_of_sums() -> None:
    assert tokens_per_forward([10, 10], [1, 9]) == 2.0
    with pytest.raises(ValueError, match="no forwards"):
        tokens_per_forward([], [])


def test_the_paired_interval_is_that_of_the_slow_obvious_bootstrap() -> None:
    rng = np.random.default_rng(3)
    a = rng.integers(0, 2, (2, 60))
    b = rng.integers(0, 2, 60)
    found = paired_bootstrap(a, b, seed=1, samples=4000)
    draws = []
    for _ in range(4000):
        rows = rng.integers(0, 60, 60)
        draws.append(np.mean([a[0, i] / 2 + a[1, i] / 2 - b[i] for i in rows]))
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert found.low == pytest.approx(np.percentile(draws, 2.5), abs=0.02)
    assert found.high == pytest.approx(np.percentile(draws, 97.5), abs=0.02)
    assert found.n == 60


def test_pairing_narrows_the_interval_of_methods_that_agree_on_problems() -> None:
    rng = np.random.default_rng(0)
    b = rng.integers(0, 2, 200)
    a = b.copy()
    a[:10] = 1
    paired = paired_bootstrap(a, b, seed=0)
    shuffled = paired_bootstrap(a, rng.permutation(b), seed=0)
    assert paired.high - paired.low < 0.5 * (shuffled.high - shuffled.low)


def test_equal_methods_differ_by_nothing() -> None:
    same = [1, 0, 1, 1]
    found = paired_bootstrap(same, same, seed=0)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_same_seed_gives_the_same_interval_and_swapping_flips_it(seed: int) -> None:
    a, b = [1, 1, 0, 1, 0, 1, 1], [0, 1, 0, 0, 1, 0, 1]
    found, again, flipped = (
        paired_bootstrap(a, b, seed, 500),
        paired_bootstrap(a, b, seed, 500),
        paired_bootstrap(b, a, seed, 500),
    )
    assert found == again
    assert (flipped.value, flipped.low, flipped.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )


def test_other_problems_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="3 problems against 2"):
        paired_bootstrap([1, 0, 1], [1, 0], seed=0)
    with pytest.raises(ValueError, match="expected"):
        paired_bootstrap([], [], seed=0)
