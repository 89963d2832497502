"""Statistics of difficulties that merge without rounding."""

from __future__ import annotations

import json
import math
import random
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trims_core.difficulty.summary import Summary, merge, summarise

difficulties = st.one_of(
    st.sampled_from([0.0, -0.0, 1e-45, 3.4028234663852886e38]), st.floats(0, 100, width=32).map(abs)
)
shards = st.lists(st.lists(difficulties, max_size=20), min_size=1, max_size=6)


def summary_of(values: list[float]) -> Summary:
    flat = np.array(values, dtype=np.float32)
    return summarise(flat, np.where(flat > 1, 1, 2).astype(np.uint8), 2)


@given(shards, st.randoms(use_true_random=False))
def test_merged_summaries_equal_the_exact_one_in_any_order(
    rows: list[list[float]], shuffler: random.Random
) -> None:
    flat = [float(np.float32(x)) for row in rows for x in row]
    parts = [summary_of(row) for row in rows]
    shuffler.shuffle(parts)
    whole = merge([Summary.from_json(json.loads(json.dumps(part.to_json()))) for part in parts])
    assert whole == summary_of(flat)
    assert Fraction(whole.sum_scaled, 2**149) == sum(map(Fraction, flat), Fraction(0))
    assert whole.n_zero == flat.count(0.0)
    assert (whole.lowest, whole.highest) == (min(flat, default=None), max(flat, default=None))
    assert whole.bucket_sizes == (sum(x > 1 for x in flat), sum(x <= 1 for x in flat))
    if flat:
        assert whole.mean == float(sum(map(Fraction, flat), Fraction(0)) / len(flat))


def test_the_mean_does_not_lose_small_values_beside_large_ones() -> None:
    values = [2.0**24, *[2.0**-24] * 1000]
    assert summary_of(values).mean == math.fsum(values) / len(values)
