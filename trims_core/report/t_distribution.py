"""Student's t distribution: two-sided p-values and quantiles, from mpmath's incomplete beta function.

Covered: degrees of freedom of 1 and more, fractional ones too; infinite ones are the normal distribution.
Not covered: fewer than one degree of freedom.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist
from typing import Final

import mpmath

_NORMAL_FROM: Final = 1e6
"""Degrees of freedom from which on the normal distribution is as good: p differs by less than 1e-6 of itself
at |t| ≤ 2."""


def two_sided_p(t: float, df: float) -> float:
    """P(|T| ≥ |t|) of Student's t with `df` degrees of freedom, relative error below 1e-8.

    Raises:
        ValueError: df < 1, or a value that is not a number.

    Source: P = I_x(df/2, 1/2) with x = df / (df + t²); 25 digits, so that none is lost near x = 1.
    """
    if math.isnan(t) or not df >= 1:
        raise ValueError(f"t = {t} with {df} degrees of freedom: expected a number and at least one")
    if math.isinf(t):
        return 0.0
    if df > _NORMAL_FROM:
        return math.erfc(abs(t) / math.sqrt(2))
    with mpmath.workdps(25):
        x = mpmath.mpf(df) / (df + mpmath.mpf(t) ** 2)
        return float(mpmath.betainc(mpmath.mpf(df) / 2, 0.5, 0, x, regularized=True))


@functools.cache
def two_sided_quantile(confidence: float, df: float) -> float:
    """The t with P(|T| ≤ t) = confidence, such as 4.3027 for 0.95 and 2 degrees of freedom.

    Newton's method from the normal quantile: p falls and is convex in t, so the steps never overshoot.

    Raises:
        ValueError: a confidence outside ]0, 1[, or df < 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}: expected above 0 and below 1")
    t = NormalDist().inv_cdf(0.5 + confidence / 2)
    if df > _NORMAL_FROM:
        return t
    step = math.inf
    while abs(step) > 1e-12 * t:
        excess = two_sided_p(t, df) - (1 - confidence)
        step = excess / (2 * _density(t, df))
        t += step
        if excess <= 0:
            break
    return t


def _density(t: float, df: float) -> float:
    log_scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return math.exp(log_scale - (df + 1) / 2 * math.log1p(t * t / df))
