"""Many looks at the same problems: Holm over a table's contrasts, McNemar per seed and over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: below α for all of which none is false, but for a chance of α.

    Source: Holm (1979), step-down: the k-th smallest of m is multiplied by m − k + 1.
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def sign_p(n_more: int, n_less: int) -> float:
    """P(at least n_more of n_more + n_less fair coins show heads): one-sided, exact.

    Source: McNemar (1947) in its exact form: of the problems that one of two models alone answers right.
    """
    n = n_more + n_less
    return math.fsum(math.comb(n, k) / 2**n for k in range(n_more, n + 1))


def majority_p(p_values: Sequence[float]) -> float:
    """One p-value against all nulls at once, which only a majority of small p-values makes small.

    The k-th smallest of S, times S/k, k being the smallest majority: valid however the p-values depend on
    each other, as those of seeds that answer the same problems do. Of one p-value it is that p-value.

    Source: Rüger (1978); Vovk & Wang (2020), section 1.
    """
    k = len(p_values) // 2 + 1
    return min(1.0, sorted(p_values)[k - 1] * len(p_values) / k)


def mcnemar(left_SN: npt.NDArray[np.bool_], right_SN: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Whether one of two methods answers more of the same problems right: per seed exactly, and combined.

    One-sided p-values are combined per direction by `majority_p`, so that seeds that point to different sides
    do not add up; twice the smaller one is the two-sided p.

    Args:
        left_SN: which problems are answered right; row s of both is the same seed.

    Returns:
        Per seed `a_only`, `b_only` (problems that one alone answers right) and p, and the combined p.
    """
    a_only = (left_SN & ~right_SN).sum(axis=1).tolist()
    b_only = (right_SN & ~left_SN).sum(axis=1).tolist()
    up = [sign_p(a, b) for a, b in zip(a_only, b_only, strict=True)]
    down = [sign_p(b, a) for a, b in zip(a_only, b_only, strict=True)]
    return {
        "a_only": a_only,
        "b_only": b_only,
        "p_by_seed": [min(1.0, 2 * min(pair)) for pair in zip(up, down, strict=True)],
        "p": min(1.0, 2 * min(majority_p(up), majority_p(down))),
    }
