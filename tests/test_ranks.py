"""Rank correlation: exact whatever the chunks and the values, and defined where it can be."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core import ranks
from trims_core.ranks import rank_correlation, spearman


def _spearman(x: Sequence[float], y: Sequence[float], chunk: int = 7) -> float | None:
    x_N, y_N = np.array(x, np.float32), np.array(y, np.float32)
    starts = range(0, len(x_N), chunk)
    with tempfile.TemporaryDirectory() as scratch:
        return spearman(((x_N[i : i + chunk], y_N[i : i + chunk]) for i in starts), Path(scratch))


def test_a_constant_side_has_no_rank_correlation() -> None:
    assert _spearman([0.0] * 4, [0.0, 1.0, 2.0, 3.0]) is None
    assert _spearman([1.0], [2.0]) is None
    assert _spearman([], []) is None
    assert rank_correlation([], []) is rank_correlation([1.0], [2.0]) is None


def test_known_values() -> None:
    # By hand: d = (1, -1, 0), 1 - 6 * 2 / (3 * 8) = 0.5.
    assert _spearman([2.0, 1.0, 3.0], [1.0, 2.0, 3.0]) == 0.5
    assert _spearman([0.0, 1e-40, 3.0], [3.0, 2.0, 1e9]) == 0.5


def test_a_monotone_function_has_rank_correlation_one_and_its_negative_minus_one() -> None:
    values = np.random.default_rng(0).lognormal(0.0, 3.0, 10_000).astype(np.float32)
    assert _spearman(values.tolist(), (4 * values).tolist(), 999) == 1.0
    assert _spearman(values.tolist(), (-values).tolist(), 999) == -1.0


def _slow_ranks(values: list[float]) -> list[float]:
    return [sum(v < x for v in values) + (1 + sum(v == x for v in values)) / 2 for x in values]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 4)), min_size=2, max_size=30), st.integers(1, 31)
)
def test_it_equals_pearson_of_slow_mean_ranks(pairs: list[tuple[int, int]], chunk: int) -> None:
    x, y = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    for found in (_spearman(x, y, chunk), rank_correlation(x, y)):
        if len(set(x)) == 1 or len(set(y)) == 1:
            assert found is None
            continue
        assert found == pytest.approx(np.corrcoef(_slow_ranks(x), _slow_ranks(y))[0, 1], abs=1e-12)


def test_it_equals_that_of_polars_on_many_values_with_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_ROWS_AT_ONCE", 1000)
    generator = np.random.default_rng(1)
    x = np.round(np.exp(generator.normal(-3.0, 3.0, 50_000)), 3).astype(np.float32)
    y = (x * generator.random(len(x)).round(1)).astype(np.float32)
    expected = pl.select(
        pl.corr(pl.Series(x).cast(pl.Float64), pl.Series(y).cast(pl.Float64), method="spearman")
    ).item()
    assert _spearman(x.tolist(), y.tolist(), 4096) == pytest.approx(expected, abs=1e-12)


def test_sums_of_products_are_exact_beyond_64_bits() -> None:
    a = np.array([2**39 - 1, -(2**39), 12345] * 1000, np.int64)
    b = a[::-1].copy()
    assert ranks._dot(a, b) == sum(int(x) * int(y) for x, y in zip(a, b, strict=True))


def test_nothing_is_left_on_disk(tmp_path: Path) -> None:
    x_N = np.arange(10, dtype=np.float32)
    assert spearman([(x_N, x_N)], tmp_path) == 1.0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
