"""Two 95 % intervals of one number: over problems, and over seeds and problems.

Over problems: the trained models are what they are and other problems could have been asked; a percentile
bootstrap. Over seeds and problems: the models could have been trained with other seeds as well. A value of
seed s is μ + A_s + P + I_s: the seed's own part A_s, the problems' part P that all seeds share, and the part
I_s of problems that only this seed answers so. The mean m over S seeds has the variance
var(A)/S + var(P) + var(I)/S. Its terms come from three observable ones:

- between = variance of the seeds' values / S, S − 1 degrees of freedom, expects var(A)/S + var(I)/S
- problems = bootstrap variance of m, expects var(P) + var(I)/S
- interaction = bootstrap variance of a seed's distance from m, scaled by 1/(S − 1), / S, expects var(I)/S

so that var(m) = between + shared, shared = problems − interaction. The half-width is √(t² between + z²
shared), t being Student's with S − 1 degrees of freedom and z the normal quantile, and at least z √problems.
It covers at least what it claims: between is var(A + I)/S times χ²/(S − 1), and the chance that a normal
value's square stays below x is concave in x, so it is at least the same mixture of Student's chance at t and
the normal one at z. One t with Satterthwaite's degrees of freedom on the same components is narrower and has
no such guarantee.

Source: variance components as in Obuchowski & Rockette (1995), readers being seeds and cases problems; the
half-width after Banerjee (1960). Coverage: bench/intervals.py.

Shapes: R resamples of the problems (row 0 is the data as they are), S seeds.
Covered: values that average over problems, or are smooth in such averages. Not covered: AUP's jumps between
its points (its intervals are as good as its bootstrap), and fewer than some 30 problems.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trims_core.report.t_distribution import two_sided_p, two_sided_quantile

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
NO_BOUNDS: Final = (-math.inf, math.inf)

CONFIDENCE: Final = 0.95
_TAILS_PERCENT: Final = (2.5, 97.5)
UNSEEDED: Final = (None,)
"""The seeds of a method that is not trained, or of a difference of two such methods: none to vary."""


@dataclass(frozen=True)
class Components:
    """Variances of a mean over seeds: what other seeds would change, and what other problems would."""

    between: float
    """Of the mean over seeds, from how the seeds differ (interaction included)."""
    problems: float
    """Of the mean over seeds, from resampling the problems (interaction included)."""
    interaction: float
    """What is in both."""
    n_seeds: int

    def half_width(self, confidence: float = CONFIDENCE) -> float:
        """Half of the interval over seeds and problems."""
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        floor = z * math.sqrt(self.problems)
        if not self.between:
            return floor
        t = two_sided_quantile(confidence, self.n_seeds - 1)
        return max(floor, math.hypot(t * math.sqrt(self.between), z * math.sqrt(self._shared)))

    def p_value(self, value: float) -> float:
        """The p of "the true value is 0": 1 − the highest confidence whose interval leaves 0 out."""
        if value == 0:
            return 1.0
        of_floor = _normal_p(value, self.problems)
        return max(of_floor, self._p_of_sum(abs(value))) if self.between else of_floor

    @property
    def _shared(self) -> float:
        return max(0.0, self.problems - self.interaction)

    def _p_of_sum(self, value: float) -> float:
        """p with value² = t(p)² between + z(p)² shared, by bisection over t."""
        low, high = 0.0, value / math.sqrt(self.between)
        df = self.n_seeds - 1
        for _ in range(60):
            t = (low + high) / 2
            p = two_sided_p(t, df)
            z = -NormalDist().inv_cdf(p / 2) if 0 < p < 1 else 0.0
            too_much = t * t * self.between + z * z * self._shared > value * value
            low, high = (low, t) if too_much else (t, high)
        return two_sided_p(low, df)


@dataclass(frozen=True)
class Estimate:
    """A number with its two intervals."""

    value: float
    over_problems: Interval
    over_seeds_and_problems: Interval | None
    """None where there is one seed only, or seeds that cannot be paired."""
    components: Components | None
    by_seed: Mapping[int, float]
    p_holm: float | None = None
    """`p`, adjusted for the table that the number stands in."""

    @cached_property
    def p(self) -> float | None:
        """Of "the true value is 0", seeds and problems being random; None without that interval."""
        return None if self.components is None else self.components.p_value(self.value)

    def row(self) -> dict[str, Any]:
        """For results.json; with p-values once they are adjusted."""
        row = {
            "value": rounded(self.value),
            "over_problems": _ends(self.over_problems),
            "over_seeds_and_problems": _ends(self.over_seeds_and_problems),
            "by_seed": {str(seed): rounded(value) for seed, value in self.by_seed.items()},
        }
        if self.p is None or self.p_holm is None:
            return row
        return {**row, "p": rounded(self.p), "p_holm": rounded(self.p_holm)}


def estimate(values_RS: Floats, seeds: Sequence[int | None], *, within: Interval = NO_BOUNDS) -> Estimate:
    """The mean over seeds with its intervals.

    Args:
        values_RS: the number under every resample; a column per seed.
        seeds: `UNSEEDED` where nothing was trained: other seeds would change nothing. Empty where the one
            column is of no seed that could be named.
        within: ends that no true value can lie beyond; an interval is cut there.
    """
    mean_R = values_RS.mean(axis=1)
    value = float(mean_R[0])
    low, high = np.percentile(mean_R[1:], _TAILS_PERCENT)
    components = components_of(values_RS, seeds)
    both = None
    if components is not None:
        half = components.half_width()
        both = (max(within[0], value - half), min(within[1], value + half))
    return Estimate(
        value=value,
        over_problems=(float(low), float(high)),
        over_seeds_and_problems=both,
        components=components,
        by_seed={s: float(v) for s, v in zip(seeds, values_RS[0], strict=False) if s is not None},
    )


def components_of(values_RS: Floats, seeds: Sequence[int | None]) -> Components | None:
    """The variances of the mean over seeds; None with fewer than two, which do not say how seeds differ."""
    problems = float(np.var(values_RS[1:].mean(axis=1), ddof=1))
    n_seeds = len(seeds)
    if tuple(seeds) == UNSEEDED:
        return Components(0.0, problems, 0.0, 1)
    if n_seeds < 2:
        return None
    between = float(np.var(values_RS[0], ddof=1)) / n_seeds
    distance_RS = values_RS[1:] - values_RS[1:].mean(axis=1, keepdims=True)
    of_one_seed = float(np.var(distance_RS, axis=0, ddof=1).sum()) / (n_seeds - 1)
    return Components(between, problems, of_one_seed / n_seeds, n_seeds)


def rounded(value: Any) -> float:
    """Six decimals, no negative zero: equal on every machine."""
    return round(float(value), 6) + 0.0


def _normal_p(value: float, variance: float) -> float:
    return math.erfc(abs(value) / math.sqrt(2 * variance)) if variance else 0.0


def _ends(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {"low": rounded(interval[0]), "high": rounded(interval[1])}
