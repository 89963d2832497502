"""Curves, AUP, equal parallelism and differences, against numbers worked out by hand and slow versions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from trims_core.report.cells import Cell
from trims_core.report.comparison import (
    common_levels,
    compare,
    curves_of,
    estimate,
    interpolate,
    interval_text,
    pairs_to_compare,
    points_of,
    resample_counts,
    resample_methods,
)


def cell(
    method: str,
    threshold: float | None,
    correct: Sequence[int],
    tokens: int = 10,
    forwards: int = 10,
    seed: int | None = 0,
) -> Cell:
    """A cell whose problems all have the same counts."""
    n = len(correct)
    return Cell(
        model="untuned" if method == "untuned" else f"{method}-s{seed}",
        variant=None if method == "untuned" else method,
        seed=None if method == "untuned" else seed,
        task="demo",
        cache="none",
        rule="threshold",
        threshold=threshold,
        sample_ids=tuple(f"p{i:03d}" for i in range(n)),
        correct_N=np.asarray(correct, dtype=np.float64),
        tokens_N=np.full(n, float(tokens)),
        forwards_N=np.full(n, float(forwards)),
        finished_N=np.ones(n, dtype=bool),
        seconds=1.0,
        tokens_per_second=10.0,
        batch_size=4,
        workers=1,
        stop_at_end=True,
        path=Path("none.parquet"),
    )


def ones(right: int, n: int = 100) -> list[int]:
    """The first `right` of n problems answered right."""
    return [1] * right + [0] * (n - right)


def test_a_point_is_the_mean_of_its_seeds_with_the_interval_of_one_run() -> None:
    (point,) = points_of(
        [cell("trims", 0.9, ones(6, 10)), cell("trims", 0.9, ones(8, 10), forwards=5, seed=1)]
    )
    assert (point["tpf"], point["accuracy"], point["n"], point["n_seeds"]) == (1.5, 0.7, 10, 2)
    # Wilson's interval of 7 of 10, from the formula in any textbook
    assert (point["low"], point["high"]) == pytest.approx((0.396778, 0.892209), abs=1e-6)
    assert [seed["accuracy"] for seed in point["seeds"]] == [0.6, 0.8]


def test_points_run_from_one_token_per_forward_to_the_lowest_threshold() -> None:
    cells = [cell("trims", t, ones(5, 10)) for t in (0.5, None, 0.9)]
    assert [point["threshold"] for point in points_of(cells)] == [None, 0.9, 0.5]


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


def test_levels_are_round_numbers_inside_every_models_range() -> None:
    levels = common_levels([np.array([1.0, 3.0, 6.3]), np.array([1.1, 5.2])])
    assert levels == [2.0, 3.0, 4.0, 5.0]


def test_there_are_no_levels_where_ranges_do_not_overlap() -> None:
    assert common_levels([np.array([1.0, 2.0]), np.array([3.0, 4.0])]) == []


def test_accuracy_between_points_is_linear_and_the_order_of_points_is_free() -> None:
    tpf, accuracy = np.array([4.0, 1.0, 2.0]), np.array([0.2, 0.8, 0.6])
    np.testing.assert_allclose(interpolate([1.5, 3.0, 4.0], tpf, accuracy), [0.7, 0.4, 0.2])


def test_aup_and_accuracy_at_a_level_equal_the_hand_computation() -> None:
    cells = [
        cell("untuned", None, ones(70)),
        cell("untuned", 0.5, ones(40), forwards=4),
        cell("trims", None, ones(80)),
        cell("trims", 0.5, ones(76), forwards=4),
    ]
    methods, levels, y_max = resample_methods(cells, 100)
    assert y_max == 80.0
    # untuned: 40 lies more than 5 points below 70 and is dropped: 1 · 70
    assert methods["untuned"].aup_R[0] == pytest.approx(70.0)
    # trims: 1 · 80, then a trapezium of width 1.5 with weights 1 and exp(−3 · (1 − 76/80))
    assert methods["trims"].aup_R[0] == pytest.approx(80 + 0.75 * (80 + 76 * math.exp(-0.15)))
    assert levels == [1.25, 1.5, 1.75, 2.0, 2.25, 2.5]
    at_two = levels.index(2.0)
    assert methods["trims"].at_level_RL[0, at_two] == pytest.approx(0.80 - 0.04 * 2 / 3)
    assert methods["untuned"].at_level_RL[0, at_two] == pytest.approx(0.50)


def two_methods(left: Sequence[int], right: Sequence[int]) -> dict[str, object]:
    """The comparison of two one-seed methods with the same outcome at both of their points."""
    cells = [
        cell(name, threshold, outcome, forwards=10 if threshold is None else 4)
        for name, outcome in (("trims", left), ("standard", right))
        for threshold in (None, 0.5)
    ]
    methods, levels, _ = resample_methods(cells, 400)
    return compare("trims", "standard", "demo", methods, levels, len(left))


def test_equal_methods_cannot_be_told_apart() -> None:
    row = two_methods(ones(60), ones(60))
    assert row["verdict"] == "not told apart"
    assert row["aup"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert str(row["sentence"]).startswith("trims and standard cannot be told apart on demo at n = 100")


def test_a_small_difference_on_other_problems_cannot_be_told_apart() -> None:
    row = two_methods(ones(53), ones(50)[::-1])
    assert row["verdict"] == "not told apart"


def test_a_small_difference_on_the_same_problems_is_told_apart() -> None:
    """The whole point of pairing: 12 points, with intervals that overlap by far."""
    row = two_methods(ones(62), ones(50))
    assert (
        points_of([cell("a", None, ones(62))])[0]["low"] < points_of([cell("a", None, ones(50))])[0]["high"]
    )
    assert row["verdict"] == "ahead"
    assert str(row["sentence"]).startswith("trims is ahead of standard on demo (n = 100, one training seed)")


def test_being_behind_is_said_the_other_way_round() -> None:
    row = two_methods(ones(40), ones(70))
    assert row["verdict"] == "behind"
    assert str(row["sentence"]).startswith("standard is ahead of trims")


def slow_paired_interval(left: Sequence[int], right: Sequence[int]) -> tuple[float, float]:
    """Percentiles of the mean difference over plain resamples of the problems."""
    generator = np.random.default_rng(1)
    difference = np.subtract(left, right)
    means = [generator.choice(difference, len(difference)).mean() for _ in range(4000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def test_the_paired_difference_agrees_with_a_slow_paired_bootstrap() -> None:
    left, right = ones(62), [1] * 25 + [0] * 37 + [1] * 20 + [0] * 18
    row = two_methods(left, right)
    mine = row["one_token_per_forward"]
    assert isinstance(mine, dict)
    assert mine["value"] == pytest.approx(np.mean(left) - np.mean(right))
    assert (mine["low"], mine["high"]) == pytest.approx(slow_paired_interval(left, right), abs=0.03)


def test_seeds_that_disagree_are_named() -> None:
    cells = []
    for seed, right in ((0, 90), (1, 48)):
        cells += [cell("trims", None, ones(right), seed=seed), cell("standard", None, ones(50), seed=seed)]
    methods, levels, _ = resample_methods(cells, 200)
    row = compare("trims", "standard", "demo", methods, levels, 100)
    assert row["verdict"] == "seeds disagree"
    assert row["aup_by_seed"] == {"0": 40.0, "1": -2.0}
    assert "not with every training seed (+40.0, −2.0)" in row["sentence"]


def test_untuned_stands_against_every_seed() -> None:
    cells = [cell("untuned", None, ones(50))]
    cells += [cell("trims", None, ones(right), seed=seed) for seed, right in ((0, 70), (1, 80))]
    methods, levels, _ = resample_methods(cells, 200)
    row = compare("trims", "untuned", "demo", methods, levels, 100)
    assert row["aup_by_seed"] == {"0": 20.0, "1": 30.0}
    assert row["aup"]["value"] == 25.0


def test_trims_is_compared_with_standard_and_both_with_untuned() -> None:
    kinds = {"untuned": "untuned", "standard": "standard", "trims": "trims", "trims-random": "trims"}
    pairs = pairs_to_compare([{"name": name, "kind": kind} for name, kind in kinds.items()])
    assert pairs == [
        ("trims", "standard"),
        ("trims-random", "standard"),
        ("standard", "untuned"),
        ("trims", "untuned"),
        ("trims-random", "untuned"),
    ]


def test_an_estimate_is_the_data_and_the_middle_95_percent_of_the_resamples() -> None:
    values = np.concatenate([[7.0], np.arange(1001.0)])
    assert estimate(values) == {"value": 7.0, "low": 25.0, "high": 975.0}


def test_intervals_are_written_with_signs() -> None:
    assert interval_text({"value": 0.052, "low": -0.01, "high": 0.113}, 1, 100.0) == "+5.2 [−1.0, +11.3]"
