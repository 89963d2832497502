"""Accuracy against parallelism: intervals, tokens per forward, AUP.

Parallelism is tokens per forward (TPF): all generated tokens of a task over all forwards, tokens counted
up to and including the first end token. `aup` takes accuracies in percent, as its publication does;
everything else takes and gives fractions. numpy only, so that planning and reporting need nothing heavy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
"""Tokens per forward and accuracy."""
Floats = npt.NDArray[np.float64]


def wilson_interval(k: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Lower and upper end of Wilson's score interval of a fraction k / n.

    Args:
        k: successes; a mean over runs may be fractional.

    Raises:
        ValueError: k outside 0 … n, or n < 1.

    Source: Wilson (1927), without continuity correction.
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} successes of {n}: expected 0 ≤ successes ≤ n and n ≥ 1")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return low, high


def tokens_per_forward(n_tokens: Sequence[int] | Floats, n_forwards: Sequence[int] | Floats) -> float:
    """Σ tokens / Σ forwards over a task; not the mean of the samples' ratios."""
    total = float(np.sum(n_forwards))
    if total <= 0:
        raise ValueError("no forwards: expected at least one sample that was decoded")
    return float(np.sum(n_tokens)) / total


def aup(points: Sequence[Point], y_max: float, alpha: float = 3.0, drop: float = 5.0) -> float:
    """Accuracy under parallelism: area under a curve of (TPF, accuracy in percent), discounted by accuracy.

    Points more than `drop` percentage points below the least parallel one are left out; a point's accuracy
    y counts with the weight min(exp(−alpha·(1 − y/y_max)), 1), except in the first, unweighted rectangle.

    Args:
        y_max: best accuracy (percent) of any method on the task.

    Raises:
        ValueError: no points.

    Source: d3LLM's published leaderboard, restated from its formula; check values in tests/test_curves.py.
    """
    if not points:
        raise ValueError("no points: expected at least one (tokens per forward, accuracy in percent)")
    if y_max <= 0:
        return 0.0
    ordered = sorted(points)
    floor = ordered[0][1] - drop
    kept = [(x, y) for x, y in ordered if y >= floor]
    area = kept[0][0] * kept[0][1]
    for (x_before, y_before), (x, y) in itertools.pairwise(kept):
        area += 0.5 * (x - x_before) * (_weighted(y, y_max, alpha) + _weighted(y_before, y_max, alpha))
    return area


def _weighted(y: float, y_max: float, alpha: float) -> float:
    return y * min(math.exp(-alpha * (1 - y / y_max)), 1.0)
