"""Student's t distribution: two-sided p-values and quantiles, as no dependency of the project has them.

Covered: degrees of freedom of 1 and more, fractional ones too; infinite ones are the normal distribution.
Not covered: fewer than one degree of freedom.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

_NORMAL_FROM: Final = 1e6
"""Degrees of freedom from which on the normal distribution is as good: p differs by less than 1e-6 of itself
at |t| ≤ 2."""
_TINY: Final = 1e-300
_PRECISION: Final = 1e-14
_MAX_TERMS: Final = 20_000


def two_sided_p(t: float, df: float) -> float:
    """P(|T| ≥ |t|) of Student's t with `df` degrees of freedom, relative error below 1e-8.

    Raises:
        ValueError: df < 1, or a value that is not a number.

    Source: P = I_x(df/2, 1/2) with x = df / (df + t²); DLMF 8.17.22 for the incomplete beta function.
    """
    if math.isnan(t) or not df >= 1:
        raise ValueError(f"t = {t} with {df} degrees of freedom: expected a number and at least one")
    if math.isinf(t):
        return 0.0
    if df > _NORMAL_FROM:
        return math.erfc(abs(t) / math.sqrt(2))
    total = df + t * t
    return _incomplete_beta(df / total, t * t / total, df / 2, 0.5)


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


def _incomplete_beta(x: float, one_minus_x: float, a: float, b: float) -> float:
    """I_x(a, b), regularised; `one_minus_x` comes separately, so that no digits are lost near 1."""
    if x <= 0 or one_minus_x <= 0:
        return 0.0 if x <= 0 else 1.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(log_front + a * math.log(x) + b * math.log(one_minus_x))
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(x, a, b) / a
    return 1 - front * _continued_fraction(one_minus_x, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    """DLMF 8.17.22 by Lentz's method."""
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _PRECISION:
            return value
    raise ArithmeticError(f"the incomplete beta function did not converge at x = {x}, a = {a}, b = {b}")


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
