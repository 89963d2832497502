"""How difficulties spread inside each bucket: a log-spaced histogram for the report."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from trims_core.difficulty.buckets import BucketPlan
from trims_core.difficulty.quantiles import Counts

# Outside these the bins are one each: below counts as zero, above is the last bin.
_LOWEST_NATS: Final = 1e-8
_HIGHEST_NATS: Final = 1e4


def difficulty_histogram(plan: BucketPlan, upper: Counts, bins_per_decade: int = 8) -> dict[str, Any]:
    """Tokens per bucket and log-spaced difficulty bin, exact, without another pass.

    Bins and buckets are both intervals of the ascending order: a cell is the overlap of two rank intervals.
    Bin edges are rounded down to what the upper half of a float32 can tell (less than 1 % apart).

    Args:
        upper: counts of the upper halves of their float32 patterns (`OrderStatistics.upper`).

    Returns:
        bin_edges_nats (B + 1 values), counts (K lists of B, bucket 1 first), n_below (K values: difficulties
        under the first edge, zeros included), all JSON-able.
    """
    filled = np.flatnonzero(upper)
    low, high = _value_of(int(max(filled[0], 1))), _value_of(int(filled[-1]) + 1)
    first = np.floor(np.log10(max(low, _LOWEST_NATS)) * bins_per_decade)
    last = np.ceil(np.log10(min(max(high, 10 * _LOWEST_NATS), _HIGHEST_NATS)) * bins_per_decade)
    wanted = 10.0 ** (np.arange(first, last + 1) / bins_per_decade)
    halves = np.unique((wanted.astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.int64))
    if halves[-1] <= filled[-1]:
        halves = np.append(halves, filled[-1] + 1)
    below = np.concatenate([[0], np.cumsum(upper)])[halves]
    starts = np.concatenate([[0], below])
    ranks = np.array([0, *(cut.rank for cut in plan.cuts), plan.n_tokens])
    overlap = np.minimum(below[:, None], ranks[None, 1:]) - np.maximum(starts[:-1, None], ranks[None, :-1])
    table = np.maximum(overlap, 0).T[::-1]
    return {
        "bin_edges_nats": [_value_of(int(half)) for half in halves],
        "counts": table[:, 1:].tolist(),
        "n_below": table[:, 0].tolist(),
    }


def _value_of(half: int) -> float:
    """The smallest float32 whose pattern has this upper half; the largest finite one beyond them."""
    value = np.array([half << 16], dtype=np.uint32).view(np.float32)[0]
    return float(min(value, np.finfo(np.float32).max))
