"""Accuracy against parallelism: intervals, tokens per forward, AUP.

Parallelism is tokens per forward (TPF): all generated tokens of a task over all forwards, tokens counted
up to and including the first end token. `aups` takes accuracies in percent, as its publication does;
everything else takes and gives fractions. numpy only, so that planning and reporting need nothing
heavy.

Shapes: R curves (resamples of one model's problems), T points of a curve in any order, L levels of TPF. A
curve is linear between neighbouring points and constant beyond its ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

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


def aups(
    tpf_RT: Floats, percent_RT: Floats, y_max_R: Floats, alpha: float = 3.0, drop: float = 5.0
) -> Floats:
    """Accuracy under parallelism of every curve, [R]: area under (TPF, percent), discounted by accuracy.

    Points more than `drop` percentage points below the least parallel one are left out; a point's accuracy
    y counts with the weight min(exp(−alpha·(1 − y/y_max)), 1), except in the first, unweighted rectangle.

    Args:
        y_max_R: best accuracy (percent) of any method on the task; where it is 0 the area is 0.

    Source: d3LLM's published leaderboard, restated from its formula; check values in tests/test_curves.py.
    """
    x_RT, y_RT = _by_tpf(tpf_RT, percent_RT)
    best_R = np.where(y_max_R > 0, y_max_R, np.inf)
    weight_RT = np.exp(np.minimum(-alpha * (1 - y_RT / best_R[:, None]), 0.0))
    last_x_R, last_R = x_RT[:, 0], y_RT[:, 0] * weight_RT[:, 0]
    area_R = x_RT[:, 0] * y_RT[:, 0]
    for i in range(1, x_RT.shape[1]):
        kept_R = y_RT[:, i] >= y_RT[:, 0] - drop
        here_R = y_RT[:, i] * weight_RT[:, i]
        area_R = area_R + np.where(kept_R, 0.5 * (x_RT[:, i] - last_x_R) * (here_R + last_R), 0.0)
        last_x_R, last_R = np.where(kept_R, x_RT[:, i], last_x_R), np.where(kept_R, here_R, last_R)
    return np.where(y_max_R > 0, area_R, 0.0)


def accuracy_at(levels_L: Sequence[float] | Floats, tpf_RT: Floats, accuracy_RT: Floats) -> Floats:
    """Accuracy of every curve at given tokens per forward, [R, L]."""
    x_RT, y_RT = _by_tpf(tpf_RT, accuracy_RT)
    return np.array([np.interp(levels_L, x_T, y_T) for x_T, y_T in zip(x_RT, y_RT, strict=True)])


def mean_accuracy(low: float, high: float, tpf_RT: Floats, accuracy_RT: Floats) -> Floats:
    """Mean accuracy of every curve over TPF from low to high, exact (trapezia between its points), [R].

    Raises:
        ValueError: the range is empty.
    """
    if not low < high:
        raise ValueError(f"from {low} to {high} tokens per forward: expected a range that is not empty")
    x_RT, y_RT = _by_tpf(tpf_RT, accuracy_RT)
    ends_R2 = accuracy_at([low, high], tpf_RT, accuracy_RT)
    inside_RT = np.where(x_RT < low, ends_R2[:, :1], np.where(x_RT > high, ends_R2[:, 1:], y_RT))
    knots = np.pad(np.clip(x_RT, low, high), ((0, 0), (1, 1)), constant_values=((0, 0), (low, high)))
    values = np.concatenate([ends_R2[:, :1], inside_RT, ends_R2[:, 1:]], axis=1)
    return np.asarray(np.trapezoid(values, knots, axis=1) / (high - low))


def _by_tpf(tpf_RT: Floats, values_RT: Floats) -> tuple[Floats, Floats]:
    """Both in the order of tokens per forward; equal ones in the order of their values, like `sorted`."""
    if (tpf_RT[:, 1:] > tpf_RT[:, :-1]).all():
        return tpf_RT, values_RT
    order = np.lexsort((values_RT, tpf_RT), axis=1)
    return np.take_along_axis(tpf_RT, order, axis=1), np.take_along_axis(values_RT, order, axis=1)
