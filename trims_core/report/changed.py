"""Which problems one method answers right and another does not, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trims_core.report.analysed import Analysed
from trims_core.report.resampling import common_seeds


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
        for seed in common_seeds(tuple(methods[a]), tuple(methods[b])):
            left, right = _of(methods[a], seed), _of(methods[b], seed)
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


def _of(models: Mapping[int | None, Analysed], seed: int | None) -> Analysed:
    """A method's model with this seed, or its only one where it is not trained."""
    return models[None] if None in models else models[seed]
