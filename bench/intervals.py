"""Do the report's 95 % intervals cover what they claim? One JSON line.

usage: python bench/intervals.py [--studies N] [--problems N] [--resamples N] [--quick]
Simulates studies of two methods (3 or 5 seeds, seeds whose accuracies differ by 0, 1, 3 or 6 points, one
standard deviation) and asks the report's own functions, from cells to intervals, for the difference of mean
accuracy over the shared range and at 4 tokens per forward. The claim: the interval over seeds and problems
covers the true difference in 93 to 99 % of the studies at every point. Beside it: the interval over problems,
a two-level percentile bootstrap (seeds, then problems), and one t quantile with Satterthwaite's degrees of
freedom on the same components.

A model answers a problem right where a sum of normal parts is above 0: the threshold's, the problem's (shared
by all), the method's with the problem, the seed's, the seed's with the problem, and the rest; so
probabilities spread over problems, and answers of methods, seeds and thresholds are correlated. True values
are exact: normal probabilities, interpolated like the report's curves and integrated over the seed's part.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from trims_core.curves import accuracy_at, mean_accuracy
from trims_core.report.cells import Cell
from trims_core.report.comparison import headline
from trims_core.report.intervals import Estimate
from trims_core.report.levels import Levels, choose_levels, ranges_of
from trims_core.report.resampling import difference, resample_counts, resample_methods
from trims_core.report.t_distribution import two_sided_quantile

SEEDS: Final = (3, 5)
SEED_SDS_POINTS: Final = (0.0, 1.0, 3.0, 6.0)
BOUNDS_PERCENT: Final = (93.0, 99.0)
QUICK_BOUNDS_PERCENT: Final = (80.0, 100.0)
LEVEL: Final = 4.0
THRESHOLDS: Final = (None, 0.9, 0.7, 0.5, 0.3)
TPF: Final = {"trims": (0.9, 2.1, 3.3, 4.9, 7.2), "standard": (0.9, 1.9, 2.9, 4.4, 6.4)}
ACCURACY: Final = {"trims": (0.9, 0.87, 0.77, 0.62, 0.46), "standard": (0.89, 0.82, 0.7, 0.54, 0.39)}
SD_PROBLEM: Final = 1.2
SD_METHOD: Final = 0.35
SD_SEED_PROBLEM: Final = 0.6
SD_REST: Final = (0.4, 0.6, 1.2, 2.0, 3.0)
"""Per threshold: the more parallel, the less does an answer depend on the problem."""
SD_ALL: Final = np.sqrt(SD_PROBLEM**2 + SD_METHOD**2 + SD_SEED_PROBLEM**2 + np.square(SD_REST))
KINDS: Final = ("seeds_and_problems", "problems", "two_level_bootstrap", "satterthwaite")
NORMAL: Final = NormalDist()


@dataclass(frozen=True)
class Point:
    """One kind of study."""

    n_seeds: int
    seed_sd_points: float
    n_problems: int

    @property
    def seed_sd(self) -> float:
        """Of the seed's part, so that mean accuracy has the wanted deviation in points."""
        density = [[NORMAL.pdf(NORMAL.inv_cdf(p)) for p in row] for row in ACCURACY.values()]
        return self.seed_sd_points / 100 / float(np.mean((density / SD_ALL)[:, 1:]))


def main() -> int:
    """0 if the claim holds at every point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--problems", type=int, default=600)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="few small studies: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.studies, options.problems, options.resamples = 24, 100, 60
    started = time.perf_counter()
    points = []
    for n_seeds in SEEDS:
        for sd in SEED_SDS_POINTS:
            found = coverage(Point(n_seeds, sd, options.problems), options.studies, options.resamples)
            points.append({"seeds": n_seeds, "seed_sd_points": sd, **found})
            print(f"{n_seeds} seeds, SD {sd:g}: {found}", file=sys.stderr, flush=True)
    low, high = QUICK_BOUNDS_PERCENT if options.quick else BOUNDS_PERCENT
    claimed = [point["coverage"][of]["seeds_and_problems"] for point in points for of in ("mean", "level")]
    passed = all(low <= percent <= high for percent in claimed)
    line = {
        "bench": "intervals",
        "studies": options.studies,
        "problems": options.problems,
        "resamples": options.resamples,
        "bounds_percent": [low, high],
        "lowest": min(claimed),
        "highest": max(claimed),
        "seconds": round(time.perf_counter() - started),
        "points": points,
        "passed": passed,
    }
    print(json.dumps(line))
    return 0 if passed else 1


def coverage(point: Point, studies: int, resamples: int) -> dict[str, Any]:
    """How many percent of the studies cover the truth, per number and kind; mean half-widths in points."""
    counts_RN = resample_counts(point.n_problems, resamples, "bench")
    hits: dict[str, dict[str, list[bool]]] = {of: {kind: [] for kind in KINDS} for of in ("mean", "level")}
    widths: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for study in range(studies):
        rng = np.random.default_rng([study, point.n_seeds, int(10 * point.seed_sd_points)])
        cells = simulate(point, rng)
        levels = choose_levels(ranges_of(cells), (LEVEL,))
        methods, _ = resample_methods(cells, counts_RN, levels)
        apart = difference(methods["trims"], methods["standard"])
        found = headline(apart)
        truths = true_differences(point, levels)
        for of, estimate, values_RS in (
            ("mean", found.mean, apart.mean_RS),
            ("level", found.at_level[0], apart.at_level_RSL[:, :, 0]),
        ):
            for kind, (low, high) in intervals(estimate, values_RS, rng).items():
                hits[of][kind].append(low <= truths[of] <= high)
                if of == "mean":
                    widths[kind].append(50 * (high - low))
    return {
        "coverage": {
            of: {kind: round(100 * float(np.mean(hit)), 1) for kind, hit in kinds.items()}
            for of, kinds in hits.items()
        },
        "half_width_points": {kind: round(float(np.mean(width)), 2) for kind, width in widths.items()},
    }


def intervals(
    estimate: Estimate, values_RS: np.ndarray, rng: np.random.Generator
) -> Mapping[str, tuple[float, float]]:
    """The report's two intervals and the two others, by kind."""
    components = estimate.components
    n_resamples, n_seeds = values_RS[1:].shape
    drawn = rng.integers(0, n_seeds, (n_resamples, n_seeds))
    low, high = np.percentile(np.take_along_axis(values_RS[1:], drawn, axis=1).mean(axis=1), [2.5, 97.5])
    variance = components.problems + max(0.0, components.between - components.interaction)
    df = max(1.0, (n_seeds - 1) * (variance / max(components.between, 1e-12)) ** 2)
    half = two_sided_quantile(0.95, df) * variance**0.5
    return {
        "seeds_and_problems": estimate.over_seeds_and_problems,
        "problems": estimate.over_problems,
        "two_level_bootstrap": (float(low), float(high)),
        "satterthwaite": (estimate.value - half, estimate.value + half),
    }


def simulate(point: Point, rng: np.random.Generator) -> list[Cell]:
    """The cells of one study, S seeds of two methods at T points over N problems."""
    n, shape_SN = point.n_problems, (point.n_seeds, point.n_problems)
    problem_N = SD_PROBLEM * rng.standard_normal(n)
    cells = []
    for method, accuracies in ACCURACY.items():
        seed_S1 = point.seed_sd * rng.standard_normal((point.n_seeds, 1))
        part_SN = problem_N + SD_METHOD * rng.standard_normal(n) + seed_S1
        part_SN = part_SN + SD_SEED_PROBLEM * rng.standard_normal(shape_SN)
        for i, threshold in enumerate(THRESHOLDS):
            rest_SN = SD_REST[i] * rng.standard_normal(shape_SN)
            right_SN = part_SN + rest_SN + SD_ALL[i] * NORMAL.inv_cdf(accuracies[i]) > 0
            tokens_SN = rng.integers(20, 60, shape_SN).astype(np.float64)
            forwards_SN = tokens_SN / TPF[method][i] * rng.gamma(20.0, 1 / 20.0, shape_SN)
            cells += [
                cell(method, seed, threshold, right_SN[seed], tokens_SN[seed], forwards_SN[seed])
                for seed in range(point.n_seeds)
            ]
    return cells


def cell(
    method: str,
    seed: int,
    threshold: float | None,
    right_N: np.ndarray,
    tokens_N: np.ndarray,
    forwards_N: np.ndarray,
) -> Cell:
    """A cell as the report reads it; what no interval looks at is empty."""
    return Cell(
        model=f"{method}-s{seed}",
        variant=method,
        seed=seed,
        task="bench",
        cache="none",
        rule="threshold",
        threshold=threshold,
        sample_ids=(),
        correct_N=right_N.astype(np.float64),
        tokens_N=tokens_N,
        forwards_N=forwards_N,
        finished_N=right_N,
        seconds=0.0,
        tokens_per_second=0.0,
        n_ungraded=0,
        batch_sizes=(1,),
        workers=(1,),
        stop_at_end=True,
    )


def true_differences(point: Point, levels: Levels) -> dict[str, float]:
    """The expected difference of the mean over the range and at the level, over seeds and problems."""
    truths = {"mean": 0.0, "level": 0.0}
    for method, sign in (("trims", 1), ("standard", -1)):
        share_Q, tpf_QT, accuracy_QT = true_curves(point, method)
        truths["mean"] += sign * float(share_Q @ mean_accuracy(*levels.shared, tpf_QT, accuracy_QT))
        truths["level"] += sign * float(share_Q @ accuracy_at(levels.tpf, tpf_QT, accuracy_QT)[:, 0])
    return truths


@cache
def true_curves(point: Point, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight [Q], tokens per forward and accuracy [Q, T] of Q values of the seed's part (quadrature)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    centres_T = np.asarray([NORMAL.inv_cdf(p) for p in ACCURACY[method]])
    latent_QT = centres_T + point.seed_sd * nodes[:, None] / SD_ALL
    tpf_QT = np.tile(TPF[method], (len(nodes), 1))
    return weights / weights.sum(), tpf_QT, np.vectorize(NORMAL.cdf)(latent_QT)


if __name__ == "__main__":
    sys.exit(main())
