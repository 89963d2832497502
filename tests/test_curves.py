"""Intervals and AUP against textbook and published values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trims_core.curves import (
    aup,
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


def test_tokens_per_forward_is_a_ratio_of_sums() -> None:
    assert tokens_per_forward([10, 10], [1, 9]) == 2.0
    with pytest.raises(ValueError, match="no forwards"):
        tokens_per_forward([], [])
