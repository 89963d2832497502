"""Every number of a comparison under resamples of the problems, seed by seed.

A resample takes the same problems in every cell of every model, recomputes tokens per forward and accuracy of
each cell, and from them the whole curve. So differences are paired, and the uncertainty of the parallelism is
part of them. The range and the levels stay those of the data.

Shapes: R resamples (row 0 is the data as they are), N problems, T cells of a model, S seeds of a method,
L levels of tokens per forward, F numbers of forwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trims_core.curves import accuracy_at, aups, mean_accuracy
from trims_core.report.cells import Cell, method_of
from trims_core.report.intervals import UNSEEDED
from trims_core.report.levels import Levels

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Seeds = tuple[int | None, ...]


@dataclass(frozen=True)
class Resampled:
    """One method's numbers under every resample of the problems, a column per seed."""

    seeds: Seeds
    """`UNSEEDED` for a method that is not trained; empty for a difference without common seeds."""
    mean_RS: Floats | None
    """Mean accuracy over the shared range of tokens per forward; None where there is no such range."""
    at_level_RSL: Floats
    at_forwards_RSF: Floats
    one_RS: Floats | None
    """Accuracy of the one-token-per-forward cell; None where a seed lacks it (partial report)."""
    right_SN: Bools | None
    """Which problems that cell answers right."""
    aup_RS: Floats


def resample_counts(n: int, samples: int, task: str) -> Floats:
    """How often each problem is drawn, [1 + samples, n]: row 0 all ones (the data), then `samples` draws.

    The draws depend on the task's name and the arguments only.
    """
    seed = int.from_bytes(hashlib.sha256(f"report.bootstrap:{task}".encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    counts_RN = np.ones((samples + 1, n))
    for row in range(samples):
        counts_RN[row + 1] = np.bincount(rng.integers(0, n, size=n), minlength=n)
    return counts_RN


def curves_of(cells: Sequence[Cell], counts_RN: Floats) -> tuple[Floats, Floats]:
    """Tokens per forward and accuracy (fraction) of one model's cells under every resample: two [R, T]."""
    counted = ("tokens_N", "forwards_N", "correct_N")
    columns = [getattr(cell, name) for name in counted for cell in cells]
    tokens_RT, forwards_RT, correct_RT = np.split(counts_RN @ np.stack(columns, axis=1), 3, axis=1)
    return tokens_RT / forwards_RT, correct_RT / counts_RN.sum(axis=1, keepdims=True)


def resample_methods(
    cells: Sequence[Cell], counts_RN: Floats, levels: Levels
) -> tuple[dict[str, Resampled], float]:
    """Per method its resampled numbers, and y_max (best accuracy of any model, %).

    Args:
        cells: all cells of one task with one cache, over the same problems.
    """
    models: dict[str, list[Cell]] = {}
    for cell in cells:
        models.setdefault(cell.model, []).append(cell)
    curves = {model: curves_of(group, counts_RN) for model, group in models.items()}
    best_R = 100 * np.max([accuracy_RT.max(axis=1) for _, accuracy_RT in curves.values()], axis=0)
    of_method: dict[str, list[str]] = {}
    for model, group in models.items():
        of_method.setdefault(method_of(group[0]), []).append(model)
    methods = {
        method: _resampled(
            [models[model] for model in mine], [curves[model] for model in mine], best_R, levels
        )
        for method, mine in of_method.items()
    }
    return methods, float(best_R[0])


def _resampled(
    groups: Sequence[Sequence[Cell]],
    curves: Sequence[tuple[Floats, Floats]],
    best_R: Floats,
    levels: Levels,
) -> Resampled:
    """One method from its models' cells and curves."""
    mean_RS = None
    if levels.shared is not None:
        mean_RS = np.stack([mean_accuracy(*levels.shared, *curve) for curve in curves], axis=1)
    ones = [
        (accuracy_RT[:, i], cell.correct_N.astype(bool))
        for group, (_, accuracy_RT) in zip(groups, curves, strict=True)
        for i, cell in enumerate(group)
        if cell.threshold is None
    ]
    complete = len(ones) == len(groups)
    at_forwards = [
        accuracy_RT[:, [[cell.threshold for cell in group].index(number) for number in levels.forwards]]
        for group, (_, accuracy_RT) in zip(groups, curves, strict=True)
    ]
    return Resampled(
        seeds=tuple(group[0].seed for group in groups),
        mean_RS=mean_RS,
        at_level_RSL=np.stack([accuracy_at(levels.tpf, *curve) for curve in curves], axis=1),
        at_forwards_RSF=np.stack(at_forwards, axis=1),
        one_RS=np.stack([accuracy_R for accuracy_R, _ in ones], axis=1) if complete else None,
        right_SN=np.stack([right_N for _, right_N in ones]) if complete else None,
        aup_RS=np.stack([aups(tpf_RT, 100 * acc_RT, best_R) for tpf_RT, acc_RT in curves], axis=1),
    )


def difference(left: Resampled, right: Resampled) -> Resampled:
    """left − right, problem by problem and seed by seed.

    A method that is not trained stands against every seed of the other. Where both are trained and share no
    seed, one column holds the difference of their means and `seeds` is empty: nothing says how seeds differ.
    """
    seeds = common_seeds(left.seeds, right.seeds)

    def minus(a: Floats, b: Floats) -> Floats:
        if not seeds:
            return np.asarray(a.mean(axis=1, keepdims=True) - b.mean(axis=1, keepdims=True))
        return np.asarray(a[:, _columns(left, seeds)] - b[:, _columns(right, seeds)])

    def minus_if_known(a: Floats | None, b: Floats | None) -> Floats | None:
        return None if a is None or b is None else minus(a, b)

    return Resampled(
        seeds=seeds,
        mean_RS=minus_if_known(left.mean_RS, right.mean_RS),
        at_level_RSL=minus(left.at_level_RSL, right.at_level_RSL),
        at_forwards_RSF=minus(left.at_forwards_RSF, right.at_forwards_RSF),
        one_RS=minus_if_known(left.one_RS, right.one_RS),
        right_SN=None,
        aup_RS=minus(left.aup_RS, right.aup_RS),
    )


def common_seeds(left: Seeds, right: Seeds) -> Seeds:
    """The seeds a difference has: those of both methods, or of the one that is trained; may be empty."""
    trained = [seeds for seeds in (left, right) if seeds != UNSEEDED]
    if len(trained) < 2:
        return trained[0] if trained else UNSEEDED
    return tuple(seed for seed in left if seed in right)


def right_at_one(left: Resampled, right: Resampled) -> tuple[Bools, Bools] | None:
    """Which problems both answer right at one token per forward, a row per common seed: two [S, N].

    None where there is no common seed, or a seed lacks the point.
    """
    seeds = common_seeds(left.seeds, right.seeds)
    if not seeds or left.right_SN is None or right.right_SN is None:
        return None
    return left.right_SN[_columns(left, seeds)], right.right_SN[_columns(right, seeds)]


def _columns(method: Resampled, seeds: Sequence[int | None]) -> list[int]:
    """Where each seed of a difference is in a method; always at 0 where the method is not trained."""
    return [0 if method.seeds == UNSEEDED else method.seeds.index(seed) for seed in seeds]
