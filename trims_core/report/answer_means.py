"""Means of numbers that answers have, with intervals over problems, or over seeds and problems.

An answer without a number is left out of the mean, in every resample. Problems are drawn as in the report's
other intervals, the same ones for every seed and method.

Shapes: N problems, X numbers of each answer, R resamples (row 0 is the data as they are), S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trims_core.report.intervals import UNSEEDED, Interval, estimate, rounded

_FEWEST_RESAMPLES: Final = 0.1
"""Share of resamples in which every seed has an answer with the number; with fewer there is no mean."""

Floats = npt.NDArray[np.float64]
Stat = dict[str, float]
"""mean, low, high and n: how many answers of all seeds have the number."""


def means_of(
    values_of: Mapping[int | None, Floats], counts_RN: Floats, within: Interval
) -> list[Stat | None]:
    """The mean over answers and seeds of each of X numbers; None where fewer than two answers have it, or so
    few of a seed that nearly all resamples lack them.

    Args:
        values_of: per seed [N, X], NaN where an answer has none; one entry under None where nothing was
            trained. A seed none of whose answers has a number is left out.
        within: ends that no number can lie beyond.
    """
    sums = {seed: _resampled(values_NX, counts_RN) for seed, values_NX in values_of.items()}
    n_X = sum(np.isfinite(values_NX).sum(axis=0) for values_NX in values_of.values())
    return [
        _stat({seed: mean_RX[:, x] for seed, mean_RX in sums.items()}, int(n), within)
        for x, n in enumerate(np.atleast_1d(n_X))
    ]


def mean_of(values_of: Mapping[int | None, Floats], counts_RN: Floats, within: Interval) -> Stat | None:
    """The same of one number each, [N] per seed."""
    columns = {seed: values_N[:, None] for seed, values_N in values_of.items()}
    return means_of(columns, counts_RN, within)[0]


def numbers(values: list[Any]) -> Floats:
    """Numbers with NaN in place of None."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _resampled(values_NX: Floats, counts_RN: Floats) -> Floats:
    """The mean over the answers that have a number, [R, X]; NaN where a resample has none of them."""
    known_NX = np.isfinite(values_NX)
    total_RX = counts_RN @ np.where(known_NX, values_NX, 0.0)
    n_RX = counts_RN @ known_NX
    return np.divide(total_RX, n_RX, out=np.full_like(total_RX, np.nan), where=n_RX > 0)


def _stat(mean_of_seed: Mapping[int | None, Floats], n: int, within: Interval) -> Stat | None:
    kept = {seed: mean_R for seed, mean_R in mean_of_seed.items() if np.isfinite(mean_R[0])}
    if n < 2:
        return None
    means_RS = np.stack(list(kept.values()), axis=1)
    n_resamples = len(means_RS)
    # with few answers a resample may hold none of them
    means_RS = means_RS[np.isfinite(means_RS).all(axis=1)]
    if len(means_RS) < _FEWEST_RESAMPLES * n_resamples:
        return None
    found = estimate(means_RS, UNSEEDED if None in kept else tuple(kept), within=within)
    low, high = found.over_seeds_and_problems or found.over_problems
    return {"mean": rounded(found.value), "low": rounded(low), "high": rounded(high), "n": n}
