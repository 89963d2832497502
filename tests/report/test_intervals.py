"""Both intervals against slow sums, known designs, and what they promise to each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.report.intervals import UNSEEDED, Components, components_of, estimate
from trims_core.report.resampling import resample_counts

Z, T2 = 1.959964, 4.302653
"""Two-sided 95 % quantiles: normal, and Student's with 2 degrees of freedom (printed tables)."""


def resampled(values_SN: np.ndarray, samples: int = 4000) -> np.ndarray:
    """The mean over problems of every seed under resamples, [R, S]."""
    counts_RN = resample_counts(values_SN.shape[1], samples, "test")
    return counts_RN @ values_SN.T / values_SN.shape[1]


def answers(n_seeds: int, n: int, seed_sd: float, shared_sd: float, own_sd: float, draw: int) -> np.ndarray:
    """Values per seed and problem: a part of the seed, one of the problem, and one of both."""
    rng = np.random.default_rng(draw)
    return (
        seed_sd * rng.standard_normal((n_seeds, 1))
        + shared_sd * rng.standard_normal(n)
        + own_sd * rng.standard_normal((n_seeds, n))
    )


def slow_mean_squares(values_SN: np.ndarray) -> tuple[float, float, float]:
    """Two-way analysis of variance, cell by cell: mean squares of seeds, problems and what is left."""
    n_seeds, n = values_SN.shape
    grand = sum(values_SN[s][i] for s in range(n_seeds) for i in range(n)) / (n_seeds * n)
    of_seed = [sum(values_SN[s][i] for i in range(n)) / n for s in range(n_seeds)]
    of_problem = [sum(values_SN[s][i] for s in range(n_seeds)) / n_seeds for i in range(n)]
    seeds = n * sum((mean - grand) ** 2 for mean in of_seed) / (n_seeds - 1)
    problems = n_seeds * sum((mean - grand) ** 2 for mean in of_problem) / (n - 1)
    left = sum(
        (values_SN[s][i] - of_seed[s] - of_problem[i] + grand) ** 2 for s in range(n_seeds) for i in range(n)
    )
    return seeds, problems, left / ((n_seeds - 1) * (n - 1))


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_components_are_those_of_a_slow_analysis_of_variance(n_seeds: int) -> None:
    values_SN = answers(n_seeds, 120, 0.05, 0.4, 0.5, draw=3)
    found = components_of(resampled(values_SN), range(n_seeds))
    assert found is not None
    seeds, problems, left = (square / values_SN.size for square in slow_mean_squares(values_SN))
    assert found.between == pytest.approx(seeds, rel=1e-9)
    # the bootstrap's share of chance: 1 / sqrt(2 · 4000), and (n − 1) / n
    assert found.problems == pytest.approx(problems, rel=0.06)
    assert found.interaction == pytest.approx(left, rel=0.06)


def test_the_half_width_is_that_of_a_known_design() -> None:
    # own derivation: √(4.302653² · 4 + 1.959964² · (9 − 1))
    assert Components(4.0, 9.0, 1.0, 3).half_width() == pytest.approx(10.236354, abs=1e-5)
    # seeds alone: Student's interval of three values; problems alone: the normal one
    assert Components(4.0, 0.0, 0.0, 3).half_width() == pytest.approx(T2 * 2, abs=1e-5)
    assert Components(0.0, 9.0, 0.0, 1).half_width() == pytest.approx(Z * 3, abs=1e-5)


def test_seeds_that_differ_widen_the_interval_and_leave_the_other_alone() -> None:
    values_SN = answers(3, 200, 0.0, 0.3, 0.3, draw=1)
    apart = values_SN + np.array([[-0.2], [0.0], [0.2]])
    near, far = (estimate(resampled(v), (0, 1, 2)) for v in (values_SN, apart))
    assert near.over_problems == pytest.approx(far.over_problems)
    assert near.over_seeds_and_problems and far.over_seeds_and_problems
    widths = [high - low for low, high in (near.over_seeds_and_problems, far.over_seeds_and_problems)]
    # the seeds' standard error is about 0.2 / √3, three seeds leave two degrees of freedom
    assert widths[1] == pytest.approx(2 * T2 * 0.2 / math.sqrt(3), rel=0.1)
    assert widths[0] < widths[1] / 3


@settings(deadline=None)
@given(
    between=st.floats(1e-9, 10),
    problems=st.floats(1e-9, 10),
    share=st.floats(0, 1.2),
    n_seeds=st.integers(2, 9),
    value=st.floats(-20, 20),
)
def test_the_interval_and_its_p_tell_the_same_story(
    between: float, problems: float, share: float, n_seeds: int, value: float
) -> None:
    found = Components(between, problems, share * problems, n_seeds)
    half, p = found.half_width(), found.p_value(value)
    assert half >= Z * math.sqrt(problems) * (1 - 1e-6), "never narrower than over problems alone"
    assert 0 <= p <= 1
    if 1e-4 < p < 1 - 1e-9:
        assert found.half_width(1 - p) == pytest.approx(abs(value), rel=1e-5, abs=1e-9)
    assert found.half_width(0.99) >= half


def test_p_is_students_with_seeds_alone_and_normal_with_problems_alone() -> None:
    assert Components(1.0, 0.0, 0.0, 3).p_value(T2) == pytest.approx(0.05, abs=1e-6)
    assert Components(0.0, 1.0, 0.0, 1).p_value(-Z) == pytest.approx(0.05, abs=1e-6)
    assert Components(1.0, 1.0, 0.0, 3).p_value(0.0) == 1.0
    assert Components(1e-12, 1e-12, 0.0, 3).p_value(1.0) < 1e-10


def test_one_seed_has_no_interval_over_seeds() -> None:
    found = estimate(resampled(answers(1, 50, 0.0, 1.0, 0.0, draw=0)), (7,))
    assert (found.over_seeds_and_problems, found.p) == (None, None)
    assert found.row()["over_seeds_and_problems"] is None
    assert list(found.by_seed) == [7]


def test_where_nothing_was_trained_only_problems_vary() -> None:
    values_RS = resampled(answers(1, 50, 0.0, 1.0, 0.0, draw=0))
    found = estimate(values_RS, UNSEEDED)
    assert found.over_seeds_and_problems is not None
    half = (found.over_seeds_and_problems[1] - found.over_seeds_and_problems[0]) / 2
    assert half == pytest.approx(Z * np.std(values_RS[1:], ddof=1), rel=1e-6)
    assert found.by_seed == {}


def test_an_accuracy_does_not_leave_zero_to_one() -> None:
    values_RS = np.array([[0.99, 0.7, 0.98]]) + 0.001 * np.random.default_rng(0).standard_normal((200, 3))
    found = estimate(values_RS, (0, 1, 2), within=(0.0, 1.0))
    assert found.over_seeds_and_problems is not None
    assert found.over_seeds_and_problems[1] == 1.0


def test_over_problems_is_the_middle_95_percent_of_the_resampled_means() -> None:
    values_RS = np.concatenate([[[6.0, 8.0]], np.stack([np.arange(1001.0), np.arange(1001.0)], axis=1)])
    found = estimate(values_RS, (0, 1))
    assert (found.value, found.over_problems) == (7.0, (25.0, 975.0))


def test_the_interval_covers_the_truth_when_seeds_differ_and_the_other_does_not() -> None:
    """Small and quick; bench/intervals.py does it properly."""
    hits = {"both": 0, "problems": 0}
    for draw in range(200):
        found = estimate(resampled(answers(3, 100, 0.1, 0.5, 0.5, draw=draw), samples=200), (0, 1, 2))
        assert found.over_seeds_and_problems is not None
        hits["both"] += found.over_seeds_and_problems[0] <= 0 <= found.over_seeds_and_problems[1]
        hits["problems"] += found.over_problems[0] <= 0 <= found.over_problems[1]
    assert hits["both"] >= 182  # 91 %: four standard errors below 97 %
    assert hits["problems"] <= 180
