"""What the cells say about methods: curves, AUP, accuracy at equal parallelism, differences with intervals.

A method is `untuned` or a variant of the training settings; its models are its seeds. Every interval is a
percentile bootstrap over the problems of the task: a resample takes the same problems in every cell of
every model, recomputes tokens per forward and accuracy of each cell, and from them the whole curve. So
differences are paired, and the uncertainty of the parallelism is part of them. Seeds are averaged inside a
resample; how far they lie apart is reported beside the interval, which does not contain it.

Shapes: R resamples (row 0 is the data as they are), N problems, T thresholds of a model, L levels of
tokens per forward.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trims_core.config import TrimsConfig
from trims_core.curves import aup, wilson_interval
from trims_core.points import parallelism_order
from trims_core.report.cells import Cell

Floats = npt.NDArray[np.float64]

_CHUNK_ROWS: Final = 256
_MAX_LEVELS: Final = 6
_BEYOND_THE_END: Final = 1.02
_STEPS: Final = (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


@dataclass(frozen=True)
class Resampled:
    """One method's numbers under every resample of the problems, its seeds averaged."""

    aup_R: Floats
    at_level_RL: Floats
    one_R: Floats | None
    """Accuracy of the one-token-per-forward cell; None where that cell is missing (partial report)."""
    aup_by_seed: Mapping[int | None, float]


def methods_of(config: TrimsConfig) -> list[dict[str, Any]]:
    """Name, kind and settings of every method, in the order of the settings, `untuned` first."""
    methods: list[dict[str, Any]] = []
    if config.sweep.untuned:
        methods.append({"name": "untuned", "kind": "untuned", "seeds": [], "settings": {}})
    for name, variant in config.train.variants.items():
        settings = variant.result_fields()
        methods.append(
            {"name": name, "kind": variant.method, "seeds": list(config.train.seeds), "settings": settings}
        )
    return methods


def method_of(cell: Cell) -> str:
    """The method a cell belongs to."""
    return "untuned" if cell.variant is None else cell.variant


def pairs_to_compare(methods: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Which differences are reported: each trims variant − each standard one, each tuned one − untuned."""
    of_kind = {
        kind: [m["name"] for m in methods if m["kind"] == kind] for kind in ("untuned", "standard", "trims")
    }
    pairs = list(itertools.product(of_kind["trims"], of_kind["standard"]))
    pairs += list(itertools.product(of_kind["standard"] + of_kind["trims"], of_kind["untuned"]))
    return pairs


def points_of(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One method's curve with one cache: per threshold the mean over seeds with a Wilson 95 % interval, and
    each seed, from the least parallel point to the most parallel.

    The interval is that of one run with the seeds' mean number of right answers: n is the number of
    problems, because the seeds answer the same ones.
    """
    points = []
    thresholds = sorted({c.threshold for c in cells}, key=partial(parallelism_order, cells[0].rule))
    for threshold in thresholds:
        group = [cell for cell in cells if cell.threshold == threshold]
        low, high = wilson_interval(float(np.mean([cell.n_correct for cell in group])), group[0].n)
        points.append(
            {
                "threshold": threshold,
                "tpf": rounded(np.mean([cell.tpf for cell in group])),
                "accuracy": rounded(np.mean([cell.n_correct / cell.n for cell in group])),
                "tokens_per_second": rounded(np.mean([cell.tokens_per_second for cell in group])),
                "low": rounded(low),
                "high": rounded(high),
                "n": group[0].n,
                "n_seeds": len(group),
                "seeds": [
                    {
                        "seed": cell.seed,
                        "tpf": rounded(cell.tpf),
                        "accuracy": rounded(cell.n_correct / cell.n),
                        "tokens_per_second": rounded(cell.tokens_per_second),
                    }
                    for cell in group
                ],
            }
        )
    return points


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
    correct_NT = np.stack([cell.correct_N for cell in cells], axis=1)
    tokens_NT = np.stack([cell.tokens_N for cell in cells], axis=1)
    forwards_NT = np.stack([cell.forwards_N for cell in cells], axis=1)
    tpf, accuracy = [], []
    for start in range(0, len(counts_RN), _CHUNK_ROWS):
        counts = counts_RN[start : start + _CHUNK_ROWS]
        tpf.append((counts @ tokens_NT) / (counts @ forwards_NT))
        accuracy.append((counts @ correct_NT) / counts.sum(axis=1, keepdims=True))
    return np.concatenate(tpf), np.concatenate(accuracy)


def common_levels(curves: Sequence[Floats]) -> list[float]:
    """Round numbers of tokens per forward inside every model's range, at most six; may be empty.

    The least parallel end is left out: it is the one-token-per-forward point, which is reported by itself.

    Args:
        curves: per model its cells' tokens per forward, [T].
    """
    low = _BEYOND_THE_END * max(float(tpf_T.min()) for tpf_T in curves)
    high = min(float(tpf_T.max()) for tpf_T in curves)
    for step in _STEPS:
        levels = [round(i * step, 6) for i in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
        if len(levels) <= _MAX_LEVELS:
            return levels
    return []


def interpolate(levels: Sequence[float], tpf_T: Floats, accuracy_T: Floats) -> Floats:
    """Accuracy at given tokens per forward, linear between neighbours, constant beyond the ends; [L]."""
    order = np.argsort(tpf_T, kind="stable")
    return np.interp(levels, tpf_T[order], accuracy_T[order])


def resample_methods(cells: Sequence[Cell], samples: int) -> tuple[dict[str, Resampled], list[float], float]:
    """Per method its resampled numbers, the common levels and y_max (best accuracy of any model, %).

    Args:
        cells: all cells of one task, over the same problems.
    """
    models: dict[str, list[Cell]] = {}
    for cell in cells:
        models.setdefault(cell.model, []).append(cell)
    counts_RN = resample_counts(cells[0].n, samples, cells[0].task)
    curves = {model: curves_of(group, counts_RN) for model, group in models.items()}
    levels = common_levels([tpf_RT[0] for tpf_RT, _ in curves.values()])
    best_R = 100 * np.max([accuracy_RT.max(axis=1) for _, accuracy_RT in curves.values()], axis=0)
    out = {}
    for method in dict.fromkeys(method_of(cell) for cell in cells):
        mine = [model for model, group in models.items() if method_of(group[0]) == method]
        aups = {models[m][0].seed: _aup_per_resample(*curves[m], best_R) for m in mine}
        at_level = [[interpolate(levels, *row) for row in zip(*curves[m], strict=True)] for m in mine]
        ones = [
            curves[m][1][:, i] for m in mine for i, cell in enumerate(models[m]) if cell.threshold is None
        ]
        out[method] = Resampled(
            aup_R=np.mean(list(aups.values()), axis=0),
            at_level_RL=np.mean(at_level, axis=0).reshape(len(counts_RN), len(levels)),
            one_R=np.mean(ones, axis=0) if len(ones) == len(mine) else None,
            aup_by_seed={seed: float(values[0]) for seed, values in aups.items()},
        )
    return out, levels, float(best_R[0])


def _aup_per_resample(tpf_RT: Floats, accuracy_RT: Floats, best_R: Floats) -> Floats:
    values = [
        aup([(float(x), 100 * float(y)) for x, y in zip(tpf_T, accuracy_T, strict=True)], float(best))
        for tpf_T, accuracy_T, best in zip(tpf_RT, accuracy_RT, best_R, strict=True)
    ]
    return np.asarray(values)


def estimate(values_R: Floats) -> dict[str, float]:
    """The value on the data (row 0) and its 95 % percentile interval over the resamples."""
    low, high = np.percentile(values_R[1:], [2.5, 97.5])
    return {"value": rounded(values_R[0]), "low": rounded(low), "high": rounded(high)}


def compare(
    a: str, b: str, task: str, methods: Mapping[str, Resampled], levels: Sequence[float], n: int
) -> dict[str, Any]:
    """The difference a − b on one task: AUP, one token per forward, equal parallelism, seeds, verdict."""
    left, right = methods[a], methods[b]
    by_seed = _differences_by_seed(left.aup_by_seed, right.aup_by_seed)
    one = None if left.one_R is None or right.one_R is None else estimate(left.one_R - right.one_R)
    at = [estimate(left.at_level_RL[:, i] - right.at_level_RL[:, i]) for i in range(len(levels))]
    out = {
        "a": a,
        "b": b,
        "n": n,
        "aup": estimate(left.aup_R - right.aup_R),
        "aup_by_seed": {str(seed): rounded(value) for seed, value in by_seed.items()},
        "one_token_per_forward": one,
        "at_level": [{"tpf": level, **row} for level, row in zip(levels, at, strict=True)],
    }
    out["verdict"], out["sentence"] = _verdict(out, task)
    return out


def _differences_by_seed(
    left: Mapping[int | None, float], right: Mapping[int | None, float]
) -> dict[int | None, float]:
    """AUP differences of equal seeds; a method without seeds (untuned) stands against every seed."""
    if set(right) == {None}:
        return {seed: value - right[None] for seed, value in left.items()}
    return {seed: left[seed] - right[seed] for seed in left if seed in right}


def _verdict(row: Mapping[str, Any], task: str) -> tuple[str, str]:
    """One word on a − b and one plain sentence. `ahead` and `behind` need an interval without zero and
    seeds that agree."""
    a, b, n, difference = row["a"], row["b"], row["n"], row["aup"]
    seeds = list(row["aup_by_seed"].values())
    agree = all(value > 0 for value in seeds) or all(value < 0 for value in seeds)
    ahead, behind = (a, b) if difference["value"] > 0 else (b, a)
    numbers = f"AUP difference {interval_text(difference, 1)}"
    told_apart = difference["low"] > 0 or difference["high"] < 0
    if not told_apart:
        word, text = "not told apart", f"{a} and {b} cannot be told apart on {task} at n = {n}: {numbers}."
    elif not agree:
        spread = ", ".join(f"{value:+.1f}".replace("-", "−") for value in seeds)
        word = "seeds disagree"
        text = (
            f"{ahead} is ahead of {behind} on {task} on average (n = {n}: {numbers}), but not with every"
            f" training seed ({spread}), so this may be the seeds' doing."
        )
    else:
        of_seeds = f", {len(seeds)} seeds" if len(seeds) > 1 else ", one training seed"
        word = "ahead" if ahead == a else "behind"
        text = f"{ahead} is ahead of {behind} on {task} (n = {n}{of_seeds}): {numbers}."
    return word, text + ("" if told_apart else _levels_apart(row["at_level"]))


def _levels_apart(rows: Sequence[Mapping[str, float]]) -> str:
    apart = [f"{row['tpf']:g}" for row in rows if row["low"] > 0 or row["high"] < 0]
    if not apart:
        return ""
    return (
        f" At {_listed(apart)} tokens per forward alone the interval excludes zero; with {len(rows)} such"
        " looks one may do so by chance."
    )


def interval_text(row: Mapping[str, float], digits: int, scale: float = 1.0) -> str:
    """`+5.2 [−1.0, +11.3]`, with a true minus sign."""
    value, low, high = (
        f"{scale * row[name]:+.{digits}f}".replace("-", "−") for name in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def rounded(value: Any) -> float:
    """Six decimals, no negative zero: equal on every machine."""
    return round(float(value), 6) + 0.0


def _listed(words: Sequence[str]) -> str:
    return " and ".join(words) if len(words) < 3 else ", ".join(words[:-1]) + " and " + words[-1]
