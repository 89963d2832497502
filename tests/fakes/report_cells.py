"""Cells made by hand, without files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trims_core.report.cells import Cell


def cell(
    method: str,
    threshold: float | None,
    correct: Sequence[int],
    tokens: int = 10,
    forwards: float = 10,
    seed: int | None = 0,
) -> Cell:
    """A cell whose problems all have the same counts."""
    n = len(correct)
    return Cell(
        model="untuned" if method == "untuned" else f"{method}-s{seed}",
        variant=None if method == "untuned" else method,
        seed=None if method == "untuned" else seed,
        task="demo",
        cache="none",
        rule="threshold",
        threshold=threshold,
        sample_ids=tuple(f"p{i:03d}" for i in range(n)),
        correct_N=np.asarray(correct, dtype=np.float64),
        tokens_N=np.full(n, float(tokens)),
        forwards_N=np.full(n, float(forwards)),
        finished_N=np.ones(n, dtype=bool),
        seconds=1.0,
        tokens_per_second=10.0,
        n_ungraded=0,
        batch_sizes=(4,),
        workers=(1,),
        stop_at_end=True,
    )


def ones(right: int, n: int = 100) -> list[int]:
    """The first `right` of n problems answered right."""
    return [1] * right + [0] * (n - right)


def curve(
    method: str, right: Sequence[int], *, tpf: Sequence[float] = (1.0, 2.0, 5.0), seed: int | None = 0
) -> list[Cell]:
    """A model's cells, one token per forward first: how many of 100 problems are right, at which TPF."""
    thresholds = (None, 0.9, 0.5, 0.3)[: len(right)]
    return [
        cell(method, threshold, ones(k), forwards=10 / x, seed=seed)
        for threshold, k, x in zip(thresholds, right, tpf, strict=True)
    ]
