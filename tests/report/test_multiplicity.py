"""Holm against all intersections, exact McNemar against counting coins, and the rule that combines seeds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trims_core.report.multiplicity import holm, majority_p, mcnemar, sign_p

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=7)


def slow_closed_bonferroni(p_values: list[float]) -> list[float]:
    """The closed test: the largest Bonferroni p of all intersections that a hypothesis is in."""
    m = range(len(p_values))
    sets = [set(c) for size in m for c in itertools.combinations(m, size + 1)]
    return [max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets if i in s) for i in m]


@given(p_values=probabilities)
def test_holm_equals_the_closed_bonferroni_test(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(slow_closed_bonferroni(p_values))


def test_holm_gives_the_textbook_values_in_the_order_given() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_the_exact_test_counts_coins() -> None:
    # R: binom.test(15, 20)$p.value = 0.04138947
    assert 2 * sign_p(15, 5) == pytest.approx(0.04138947, abs=1e-8)
    for more, less in ((0, 0), (3, 0), (0, 3), (4, 6)):
        n = more + less
        heads = [sum(coins) for coins in itertools.product((0, 1), repeat=n)]
        assert sign_p(more, less) == pytest.approx(sum(h >= more for h in heads) / 2**n)
    assert sign_p(1500, 1500) == pytest.approx(0.5073, abs=1e-4)


@given(p_values=probabilities)
def test_a_majority_must_be_small_and_one_seed_is_itself(p_values: list[float]) -> None:
    found = majority_p(p_values)
    if len(p_values) == 1:
        assert found == p_values[0]
    assert np.median(p_values) <= found + 1e-12 or found == 1.0
    below = sum(p <= 0.05 for p in p_values)
    if found <= 0.05:
        assert 2 * below > len(p_values)


def test_the_rule_keeps_its_level_under_the_worst_dependence() -> None:
    """Two of three p-values are small together, each pair equally often: α is reached and not passed."""
    alpha, n = 0.06, 30_000
    rejected = 0
    for draw in range(n):  # a uniform p per seed, on an even grid
        u = (draw + 0.5) / n
        if u < alpha:
            both = 2 / 3 * alpha * ((draw * 7 % n + 0.5) / n)
            rejected += majority_p([both, both, 0.9]) <= alpha
    # each seed is in two of the three pairs: P(p ≤ 2α/3) = α · 2/3, as for a uniform p
    assert rejected / n == pytest.approx(alpha, rel=0.01)
    assert majority_p([alpha, alpha, 0.9]) > alpha


def test_golden_combinations() -> None:
    # own derivation: k = 1, 2, 2, 3, 3 of S = 1 … 5
    cases = {(0.2,): 0.2, (0.2, 0.1): 0.2, (0.3, 0.01, 0.02): 0.03, (0.03, 0.01, 0.02, 0.9): 0.04}
    for p_values, combined in cases.items():
        assert majority_p(p_values) == pytest.approx(combined)
    assert majority_p([0.01, 0.02, 0.03, 0.5, 0.6]) == pytest.approx(0.05)


def rights(*n_right: int) -> np.ndarray:
    """Per seed the first so many of 40 problems right."""
    return np.array([[i < k for i in range(40)] for k in n_right])


def test_mcnemar_counts_the_problems_that_one_alone_answers_right() -> None:
    found = mcnemar(rights(25, 28, 30), rights(15, 20, 28))
    assert (found["a_only"], found["b_only"]) == ([10, 8, 2], [0, 0, 0])
    assert found["p_by_seed"] == pytest.approx([2 / 2**10, 2 / 2**8, 0.5])
    # the second smallest of three one-sided ones, times 3/2, doubled
    assert found["p"] == pytest.approx(2 * 1.5 / 2**8)


def test_seeds_that_point_to_different_sides_do_not_add_up() -> None:
    found = mcnemar(rights(30, 10, 20), rights(20, 20, 20))
    assert max(found["p_by_seed"][:2]) < 0.01
    assert found["p"] == 1.0


def test_equal_answers_have_p_one() -> None:
    assert mcnemar(rights(12, 12), rights(12, 12))["p"] == 1.0
