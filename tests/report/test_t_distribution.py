"""Student's t against printed tables, against its own density, and against its own inverse."""

from __future__ import annotations

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.report.t_distribution import two_sided_p, two_sided_quantile


@pytest.mark.parametrize(
    ("confidence", "df", "t"),
    [
        (0.95, 1, 12.7062),
        (0.95, 2, 4.3027),
        (0.95, 3, 3.1824),
        (0.95, 4, 2.7764),
        (0.95, 10, 2.2281),
        (0.95, 120, 1.9799),
        (0.99, 2, 9.9248),
        (0.999, 4, 8.6103),
        (0.95, float("inf"), 1.9600),
    ],
)
def test_quantiles_are_those_of_the_printed_tables(confidence: float, df: float, t: float) -> None:
    # Fisher & Yates, table III; NIST/SEMATECH e-handbook 1.3.6.7.2
    assert two_sided_quantile(confidence, df) == pytest.approx(t, abs=5.1e-5)


@pytest.mark.parametrize("df", [1, 1.5, 2, 3.7, 12, 200, 30_000])
@pytest.mark.parametrize("t", [1e-4, 0.5, 2.0, 4.0, 12.0])
def test_p_equals_the_integral_of_the_density(df: float, t: float) -> None:
    with mpmath.workdps(30):
        v = mpmath.mpf(df)
        scale = mpmath.gamma((v + 1) / 2) / mpmath.gamma(v / 2) / mpmath.sqrt(v * mpmath.pi)
        inside = mpmath.quad(lambda u: scale * (1 + u * u / v) ** (-(v + 1) / 2), [0, t / 4, t / 2, t])
        assert two_sided_p(t, df) == pytest.approx(float(1 - 2 * inside), rel=1e-8, abs=1e-14)


@settings(deadline=None)
@given(p=st.floats(1e-9, 0.999), df=st.floats(1, 1e5))
def test_the_quantile_inverts_p(p: float, df: float) -> None:
    t = two_sided_quantile(1 - p, df)
    assert two_sided_p(t, df) == pytest.approx(p, rel=1e-6)
    assert two_sided_p(-t, df) == two_sided_p(t, df)


def test_many_degrees_of_freedom_are_the_normal_distribution_without_a_step() -> None:
    assert two_sided_p(2.5, 0.999e6) == pytest.approx(two_sided_p(2.5, 1.001e6), rel=2e-5)
    assert two_sided_p(float("inf"), 3) == 0.0


@pytest.mark.parametrize(("t", "df"), [(1.0, 0.5), (float("nan"), 3), (1.0, float("nan"))])
def test_what_is_not_covered_is_refused(t: float, df: float) -> None:
    with pytest.raises(ValueError, match="expected a number and at least one"):
        two_sided_p(t, df)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 1.5])
def test_a_confidence_outside_zero_and_one_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="expected above 0 and below 1"):
        two_sided_quantile(confidence, 3)
