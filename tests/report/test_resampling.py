"""Resampled numbers against drawing problems one by one, and differences that pair seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fakes.report_cells import cell, curve

from trims_core.report.cells import Cell
from trims_core.report.levels import choose_levels, ranges_of
from trims_core.report.resampling import (
    Resampled,
    common_seeds,
    curves_of,
    difference,
    resample_counts,
    resample_methods,
    right_at_one,
)


def methods_of_cells(cells: list[Cell], levels: tuple[float, ...] = (3.0,)) -> dict[str, Resampled]:
    counts_RN = resample_counts(cells[0].n, 100, "demo")
    return resample_methods(cells, counts_RN, choose_levels(ranges_of(cells), levels))[0]


def test_resamples_start_with_the_data_and_draw_n_problems_each() -> None:
    counts_RN = resample_counts(30, 50, "demo")
    assert counts_RN.shape == (51, 30)
    assert (counts_RN[0] == 1).all()
    assert (counts_RN.sum(axis=1) == 30).all()
    assert (counts_RN == resample_counts(30, 50, "demo")).all()
    assert (counts_RN != resample_counts(30, 50, "other")).any()


def test_resampled_curves_equal_the_slow_obvious_computation() -> None:
    rng = np.random.default_rng(3)
    cells = []
    for threshold in (None, 0.5):
        made = cell("trims", threshold, rng.integers(0, 2, 20).tolist())
        made.tokens_N[:] = rng.integers(1, 30, 20)
        made.forwards_N[:] = rng.integers(1, 30, 20)
        cells.append(made)
    counts_RN = resample_counts(20, 300, "demo")
    tpf_RT, accuracy_RT = curves_of(cells, counts_RN)
    for row in (0, 1, 299):
        drawn = [i for i, times in enumerate(counts_RN[row]) for _ in range(int(times))]
        for column, made in enumerate(cells):
            tokens = sum(made.tokens_N[i] for i in drawn)
            forwards = sum(made.forwards_N[i] for i in drawn)
            assert tpf_RT[row, column] == pytest.approx(tokens / forwards)
            assert accuracy_RT[row, column] == pytest.approx(sum(made.correct_N[i] for i in drawn) / 20)


def test_aup_level_and_mean_equal_the_hand_computation() -> None:
    cells = curve("untuned", (70, 60, 40)) + curve("trims", (80, 78, 76), tpf=(1.0, 2.5, 6.0))
    counts_RN = resample_counts(100, 100, "demo")
    levels = choose_levels(ranges_of(cells), (3.0,))
    methods, y_max = resample_methods(cells, counts_RN, levels)
    assert (levels.shared, levels.tpf) == (pytest.approx((2.5, 5.0)), (3.0,))
    assert y_max == 80.0
    untuned, trims = methods["untuned"], methods["trims"]
    # untuned: 60 and 40 lie more than 5 points below 70 and are dropped: 1 · 70
    assert untuned.aup_RS[0] == pytest.approx([70.0])
    # trims: 1 · 80, then trapezia with weights 1, exp(−3 · (1 − 78/80)) and exp(−3 · (1 − 76/80))
    middle, last = 78 * math.exp(-0.075), 76 * math.exp(-0.15)
    assert trims.aup_RS[0] == pytest.approx([80 + 0.75 * (80 + middle) + 1.75 * (middle + last)])
    assert untuned.at_level_RSL[0, 0] == pytest.approx([0.6 - 0.2 / 3])
    assert trims.at_level_RSL[0, 0] == pytest.approx([0.78 - 0.02 * 0.5 / 3.5])
    # from 2.5 to 5: untuned falls in a line from 0.6 − 0.2/6 to 0.4
    assert untuned.mean_RS is not None
    assert untuned.mean_RS[0] == pytest.approx([(0.6 - 0.2 / 6 + 0.4) / 2])


def test_a_difference_pairs_equal_seeds_whatever_their_order() -> None:
    left = curve("trims", (90, 80, 60), seed=0) + curve("trims", (80, 70, 50), seed=1)
    right = curve("standard", (70, 65, 40), seed=1) + curve("standard", (60, 50, 55), seed=0)
    methods = methods_of_cells(left + right)
    found = difference(methods["trims"], methods["standard"])
    assert found.seeds == (0, 1)
    assert found.one_RS is not None
    assert found.one_RS[0] == pytest.approx([0.3, 0.1])
    both = right_at_one(methods["trims"], methods["standard"])
    assert both is not None
    assert [rows.sum(axis=1).tolist() for rows in both] == [[90, 80], [60, 70]]


def test_seeds_that_only_one_method_has_do_not_count() -> None:
    left = [c for seed in (0, 1, 2) for c in curve("trims", (90, 80 + seed, 60), seed=seed)]
    right = [c for seed in (1, 2, 5) for c in curve("standard", (70, 60, 50), seed=seed)]
    methods = methods_of_cells(left + right, (2.0,))
    found = difference(methods["trims"], methods["standard"])
    assert found.seeds == (1, 2)
    assert found.at_level_RSL[0, :, 0] == pytest.approx([0.21, 0.22])


def test_untuned_stands_against_every_seed() -> None:
    cells = curve("untuned", (50, 40, 30))
    cells += curve("trims", (70, 60, 50), seed=0) + curve("trims", (80, 60, 50), seed=1)
    methods = methods_of_cells(cells)
    for a, b, sign in (("trims", "untuned", 1), ("untuned", "trims", -1)):
        found = difference(methods[a], methods[b])
        assert found.seeds == (0, 1)
        assert found.one_RS is not None
        assert found.one_RS[0] == pytest.approx([sign * 0.2, sign * 0.3])


def test_without_a_common_seed_only_the_means_are_compared() -> None:
    cells = curve("trims", (90, 80, 60), seed=0) + curve("trims", (80, 80, 60), seed=1)
    methods = methods_of_cells(cells + curve("standard", (70, 60, 50), seed=7))
    left, right = methods["trims"], methods["standard"]
    found = difference(left, right)
    assert (found.seeds, common_seeds(left.seeds, right.seeds), right_at_one(left, right)) == ((), (), None)
    assert found.one_RS is not None
    assert found.one_RS.shape == (101, 1)
    assert found.one_RS[0] == pytest.approx([0.15])


def test_a_seed_without_the_one_token_cell_leaves_that_number_out() -> None:
    cells = curve("trims", (90, 80, 60), seed=0) + curve("trims", (80, 80, 60), seed=1)[1:]
    methods = methods_of_cells(cells + curve("untuned", (50, 40, 30)))
    assert methods["trims"].one_RS is None
    assert difference(methods["trims"], methods["untuned"]).one_RS is None
    assert right_at_one(methods["trims"], methods["untuned"]) is None
