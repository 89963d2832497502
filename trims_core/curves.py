"""Accuracy against parallelism: intervals, points, AUP, fronts, and paired tests between methods.

Parallelism is tokens per forward (TPF): all generated tokens of a task over all forwards, tokens counted
up to and including the first end token. `aup` takes accuracies in percent, as its publication does;
everything else takes and gives fractions. numpy only, so that planning and reporting need nothing heavy.

Shapes: S seeds, N problems, R resamples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
"""Tokens per forward and accuracy."""
Floats = npt.NDArray[np.float64]

_CHUNK_DRAWS: Final = 1 << 22


@dataclass(frozen=True)
class Difference:
    """A difference of accuracies (fractions) between two methods, with its bootstrap interval."""

    value: float
    low: float
    high: float
    n: int
    """Problems."""


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


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Indices of the points no other one beats in both coordinates, by rising tokens per forward.

    Of equal points the first is kept.
    """
    by_parallelism = sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1], i))
    front: list[int] = []
    for i in by_parallelism:
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front[::-1]


def accuracy_at(points: Sequence[Point], tpf: float) -> float | None:
    """Accuracy at this many tokens per forward, linear between neighbouring points; None outside their range.

    Points of equal parallelism count with their mean accuracy.
    """
    grouped: dict[float, list[float]] = {}
    for x, y in points:
        grouped.setdefault(x, []).append(y)
    xs = sorted(grouped)
    if not xs or not xs[0] <= tpf <= xs[-1]:
        return None
    return float(np.interp(tpf, xs, [float(np.mean(grouped[x])) for x in xs]))


def paired_bootstrap(
    correct_a: npt.ArrayLike,
    correct_b: npt.ArrayLike,
    seed: int,
    samples: int = 10_000,
    confidence: float = 0.95,
) -> Difference:
    """Accuracy of a minus accuracy of b on the same problems, with a percentile bootstrap interval.

    Problems are resampled, the same ones for both methods; a method's seeds are averaged per problem first,
    so the interval holds the uncertainty of the problems and not that of training seeds.

    Args:
        correct_a: 0/1 (or probabilities), [N] or [S, N], problems in the same order as in `correct_b`;
            the two may have different numbers of seeds.
        seed: of the resampling; the same arguments give the same interval.

    Raises:
        ValueError: other numbers of problems, or none.
    """
    gain_N = _per_problem(correct_a) - _per_problem_like(correct_b, correct_a)
    n = int(gain_N.shape[0])
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK_DRAWS // n)
    means = [
        gain_N[rng.integers(0, n, size=(min(rows, samples - start), n))].mean(axis=1)
        for start in range(0, samples, rows)
    ]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return Difference(float(gain_N.mean()), float(low), float(high), n)


def _per_problem(correct: npt.ArrayLike) -> Floats:
    values = np.asarray(correct, dtype=np.float64)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(
            f"outcomes of shape {values.shape}: expected [problems] or [seeds, problems], not empty"
        )
    return values if values.ndim == 1 else values.mean(axis=0)


def _per_problem_like(correct: npt.ArrayLike, other: npt.ArrayLike) -> Floats:
    mine, theirs = _per_problem(correct), _per_problem(other)
    if mine.shape != theirs.shape:
        raise ValueError(
            f"{theirs.shape[0]} problems against {mine.shape[0]}: a paired test needs the same problems"
            " in the same order"
        )
    return mine
