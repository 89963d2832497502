"""Which problems one method answers right and another does not, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trims_core.report.analysed import Analysed


def changed_of(
    pairs: Sequence[tuple[str, str]], methods: Mapping[str, Mapping[int | None, Analysed]]
) -> list[dict[str, Any]]:
    """Of each pair (a, b) and seed the problems that a alone answers right (became_right, from b to a), and b
    alone.

    A method that is not trained stands against every seed of the other; two trained ones are compared at
    equal seeds.
    """
    rows = []
    for a, b in pairs:
        if a not in methods or b not in methods:
            continue
        for seed, left, right in _paired(methods[a], methods[b]):
            ids = left.cell.sample_ids
            gain_N = left.cell.correct_N - right.cell.correct_N
            rows.append(
                {
                    "a": a,
                    "b": b,
                    "seed": seed,
                    "became_right": [ids[i] for i in np.flatnonzero(gain_N > 0)],
                    "became_wrong": [ids[i] for i in np.flatnonzero(gain_N < 0)],
                    "n": len(ids),
                }
            )
    return rows


def _paired(
    left: Mapping[int | None, Analysed], right: Mapping[int | None, Analysed]
) -> list[tuple[int | None, Analysed, Analysed]]:
    if None in left:
        return [(seed, left[None], model) for seed, model in right.items()]
    if None in right:
        return [(seed, model, right[None]) for seed, model in left.items()]
    return [(seed, model, right[seed]) for seed, model in left.items() if seed in right]
