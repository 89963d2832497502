"""Which differences are told, with which words, and how p-values are adjusted over a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.report_cells import cell, curve, ones
from fakes.report_world import ReportWorld

from trims_core.errors import ConfigError
from trims_core.report.cells import Cell
from trims_core.report.comparison import compare_all, methods_of, numbers_of, pairs_to_compare, points_of
from trims_core.report.levels import choose_levels, common_forwards, ranges_of
from trims_core.report.resampling import resample_counts, resample_methods
from trims_core.report.runs import Run
from trims_core.report.verdicts import interval_text, p_text, signed


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


def compared(
    cells: Sequence[Cell], pairs: Sequence[tuple[str, str]], levels: Sequence[float] = (3.0,)
) -> list[dict[str, Any]]:
    """The differences of these pairs on hand-made cells."""
    where = choose_levels(ranges_of(cells), levels, common_forwards(cells))
    methods, _ = resample_methods(cells, resample_counts(cells[0].n, 400, "demo"), where)
    return compare_all(pairs, "demo", methods, where, cells[0].n)


def two_methods(left: Sequence[int], right: Sequence[int]) -> dict[str, Any]:
    """The comparison of two one-seed methods with the same outcome at all of their points."""
    cells = [
        cell(name, threshold, outcome, forwards=forwards)
        for name, outcome in (("trims", left), ("standard", right))
        for threshold, forwards in ((None, 10), (0.9, 5), (0.5, 2))
    ]
    return compared(cells, [("trims", "standard")])[0]


def test_equal_methods_cannot_be_told_apart() -> None:
    row = two_methods(ones(60), ones(60))
    assert row["verdict"] == "not told apart"
    assert row["mean_over_range"]["over_problems"] == {"low": 0.0, "high": 0.0}
    assert row["sentence"].startswith(
        "trims and standard cannot be told apart on demo (n = 100, one training seed): accuracy over 2.0 to"
        " 5.0 tokens per forward +0.0"
    )


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
    assert row["sentence"].startswith("trims is ahead of standard on demo (n = 100, one training seed)")
    assert "over problems." in row["sentence"]


def test_being_behind_is_said_the_other_way_round() -> None:
    row = two_methods(ones(40), ones(70))
    assert row["verdict"] == "behind"
    assert row["sentence"].startswith("standard is ahead of trims")


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
    for mine in (row["one_token_per_forward"], row["mean_over_range"], row["at_level"][0]):
        assert mine["value"] == pytest.approx(np.mean(left) - np.mean(right))
        assert mine["over_seeds_and_problems"] is None
        ends = (mine["over_problems"]["low"], mine["over_problems"]["high"])
        assert ends == pytest.approx(slow_paired_interval(left, right), abs=0.03)


def three_seeds(*gains: int, level: int = 50) -> list[Cell]:
    """Standard masks at 50, 45 and 40 of 100 right, trims with every seed so many more."""
    cells = []
    for seed, gain in enumerate(gains):
        cells += curve("standard", (level, level - 5, level - 10), seed=seed)
        cells += curve("trims", (level + gain, level - 5 + gain, level - 10 + gain), seed=seed)
    return cells


def test_seeds_that_agree_put_a_method_ahead_over_seeds_and_problems() -> None:
    (row,) = compared(three_seeds(20, 21, 22), [("trims", "standard")])
    assert row["verdict"] == "ahead"
    assert row["seeds"] == [0, 1, 2]
    assert "(n = 100, 3 seeds)" in row["sentence"]
    assert "points over seeds and problems, Holm's p" in row["sentence"]
    assert "By seed: +20.0, +21.0, +22.0." in row["sentence"]


def test_seeds_that_disagree_are_no_finding_though_these_models_differ() -> None:
    """Over problems the interval is far from zero: it knows nothing of other seeds."""
    (row,) = compared(three_seeds(45, 2, 12), [("trims", "standard")])
    mean = row["mean_over_range"]
    assert mean["over_problems"]["low"] > 0.1
    assert mean["over_seeds_and_problems"]["low"] < 0 < mean["p_holm"] - 0.05
    assert row["verdict"] == "not told apart"
    assert "These trained models differ over problems; other seeds may turn that round." in row["sentence"]


def test_holm_goes_over_the_means_and_levels_of_all_pairs_and_over_nothing_else() -> None:
    cells = three_seeds(6, 8, 13) + curve("untuned", (30, 28, 26))
    pairs = [("trims", "standard"), ("trims", "untuned")]
    both = compared(cells, pairs, (2.5, 4.0))
    family = [entry for row in both for entry in (row["mean_over_range"], *row["at_level"])]
    assert len(family) == 6
    smallest = min(family, key=lambda entry: entry["p"])
    assert smallest["p_holm"] == pytest.approx(6 * smallest["p"], abs=6e-6)
    assert all(entry["p_holm"] >= entry["p"] for entry in family)
    for row in both:
        assert "p_holm" not in row["aup"]
        assert "p_holm" not in row["one_token_per_forward"]
    (alone,) = compared(cells, pairs[:1], (4.0,))
    assert alone["mean_over_range"]["p"] == both[0]["mean_over_range"]["p"]
    assert alone["mean_over_range"]["p_holm"] < both[0]["mean_over_range"]["p_holm"]


def test_the_adjusted_p_decides_and_not_the_interval_of_one_contrast() -> None:
    cells = three_seeds(9, 10, 11)
    (alone,) = compared(cells, [("trims", "standard")])
    crowd = [c for i in range(12) for seed in range(3) for c in curve(f"other-{i}", (50, 45, 40), seed=seed)]
    pairs = [("trims", "standard"), *((f"other-{i}", "standard") for i in range(12))]
    among_many = compared([*cells, *crowd], pairs)[0]
    assert alone["mean_over_range"]["p"] == among_many["mean_over_range"]["p"] < 0.05
    assert among_many["mean_over_range"]["over_seeds_and_problems"]["low"] > 0
    assert (alone["verdict"], among_many["verdict"]) == ("ahead", "not told apart")


def test_mcnemar_stands_per_seed_with_its_own_adjustment() -> None:
    cells = three_seeds(20, 10, 4) + curve("untuned", (30, 28, 26))
    first, second = compared(cells, [("trims", "standard"), ("trims", "untuned")])
    test = first["mcnemar"]
    assert (test["a_only"], test["b_only"]) == ([20, 10, 4], [0, 0, 0])
    assert test["p_by_seed"] == pytest.approx([2 / 2**20, 2 / 2**10, 2 / 2**4], abs=1e-6)
    assert test["p"] == pytest.approx(2 * 1.5 / 2**10, abs=1e-6)
    assert second["mcnemar"]["a_only"] == [40, 30, 24]
    assert test["p_holm"] == pytest.approx(test["p"])  # the larger of two: times one
    assert second["mcnemar"]["p_holm"] == pytest.approx(2 * second["mcnemar"]["p"], abs=2e-6)


def test_without_a_common_seed_the_second_interval_is_missing_and_that_is_said() -> None:
    cells = [c for seed in (0, 1) for c in curve("trims", (90, 80, 70), seed=seed)]
    cells += [c for seed in (2, 3) for c in curve("standard", (70, 60, 50), seed=seed)]
    (row,) = compared(cells, [("trims", "standard")])
    assert row["mean_over_range"]["over_seeds_and_problems"] is None
    assert (row["verdict"], row["mcnemar"]) == ("ahead", None)
    assert "(n = 100, no training seed in common)" in row["sentence"]


def test_without_a_shared_range_there_is_no_verdict() -> None:
    cells = curve("trims", (90, 80), tpf=(1.0, 2.0)) + curve("standard", (70, 60), tpf=(1.0, 3.0))
    (row,) = compared(cells, [("trims", "standard")])
    assert (row["mean_over_range"], row["at_level"]) == (None, [])
    assert row["verdict"] == "no shared range"
    assert row["one_token_per_forward"]["value"] == pytest.approx(0.2)


def test_sweeps_of_one_number_of_forwards_are_compared_at_it() -> None:
    """Tokens per forward differ with the answers' lengths, so that nothing is shared."""
    cells = []
    for seed, right, tpf in ((0, 40, 5.3), (1, 55, 6.6), (2, 70, 6.1)):
        cells += [
            cell("rl", 6, ones(right), forwards=10 / tpf, seed=seed),
            cell("rl", None, ones(80), seed=seed),
        ]
    cells += [cell("untuned", 6, ones(15), forwards=1.5), cell("untuned", None, ones(80))]
    cells = [replace(one, rule="eoser_ass") for one in cells]
    (row,) = compared(cells, [("rl", "untuned")])
    (at,) = row["at_forwards"]
    assert (row["mean_over_range"], row["at_level"], at["forwards"]) == (None, [], 6)
    assert list(at["by_seed"].values()) == pytest.approx([0.25, 0.40, 0.55])
    assert at["p_holm"] == pytest.approx(at["p"])
    wide, narrow = at["over_seeds_and_problems"], at["over_problems"]
    assert wide["low"] < narrow["low"] < 0.4 < narrow["high"] < wide["high"]
    assert row["verdict"] == "ahead"
    assert "(n = 100, 3 seeds): accuracy with 6 forwards +40.0" in row["sentence"]
    (same,) = compared([replace(one, rule="threshold") for one in cells], [("rl", "untuned")])
    assert (same["at_forwards"], same["verdict"]) == ([], "no shared range")


def test_levels_alone_that_differ_are_a_hint_and_no_verdict() -> None:
    cells = curve("trims", (50, 45, 52), tpf=(1.0, 2.0, 5.0)) + curve("standard", (50, 57, 40))
    (row,) = compared(cells, [("trims", "standard")], (2.0, 5.0))
    assert row["verdict"] == "not told apart"
    assert (
        "At 2 and 5 tokens per forward alone the interval excludes zero; with 2 such looks" in row["sentence"]
    )


def test_a_methods_numbers_have_both_intervals_and_every_seed() -> None:
    cells = three_seeds(20, 10, 15)
    where = choose_levels(ranges_of(cells), (3.0,))
    methods, _ = resample_methods(cells, resample_counts(100, 400, "demo"), where)
    row = numbers_of(methods["trims"], where)
    mean = row["mean_over_range"]
    assert row["seeds"] == [0, 1, 2]
    assert list(mean["by_seed"].values()) == pytest.approx([0.625, 0.525, 0.575])
    assert mean["value"] == pytest.approx(0.575)
    wide, narrow = mean["over_seeds_and_problems"], mean["over_problems"]
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]
    assert "p_holm" not in mean


def kinds(*variants: tuple[str, str, str, float]) -> list[dict[str, Any]]:
    """Variants by name, method, order and rho."""
    methods = [{"name": "untuned", "kind": "untuned", "method": None, "settings": {}}]
    return methods + [
        {
            "name": name,
            "kind": "baseline" if method == "standard" else "trained",
            "method": method,
            "settings": {"order": order, "rho": rho},
        }
        for name, method, order, rho in variants
    ]


def test_variants_of_one_method_that_differ_in_one_setting_are_compared_too() -> None:
    pairs = pairs_to_compare(
        kinds(
            ("standard", "standard", "descending", 0.5),
            ("trims", "trims", "descending", 0.5),
            ("trims-random", "trims", "random", 0.5),
            ("trims-more", "trims", "random", 0.9),
        )
    )
    assert pairs == [
        ("trims", "standard"),
        ("trims-random", "standard"),
        ("trims-more", "standard"),
        ("trims", "trims-random"),
        ("trims-random", "trims-more"),
        ("standard", "untuned"),
        ("trims", "untuned"),
        ("trims-random", "untuned"),
        ("trims-more", "untuned"),
    ]


def test_asked_pairs_are_all_there_is_each_once_in_their_order() -> None:
    asked = [("trims-random", "trims"), ("trims", "untuned"), ("trims-random", "trims")]
    assert pairs_to_compare(kinds(), asked) == asked[:2]
    assert pairs_to_compare(kinds(), ()) == []


ORDERS = {"trims": {"order": "descending"}, "trims-random": {"order": "random"}}


def test_the_settings_name_pairs(tmp_path: Path) -> None:
    asked = [["trims", "trims-random"], ["trims", "untuned"]]
    config = ReportWorld(tmp_path, variants=ORDERS, report={"compare": asked}).config()
    assert config.report.compare == (("trims", "trims-random"), ("trims", "untuned"))
    assert pairs_to_compare(methods_of(Run(config, {})), config.report.compare) == [
        tuple(pair) for pair in asked
    ]
    default = ReportWorld(tmp_path, variants=ORDERS).config()
    assert pairs_to_compare(methods_of(Run(default, {})))[0] == ("trims", "trims-random")


@pytest.mark.parametrize(
    ("asked", "sweep", "message"),
    [
        (
            [["trims", "trims-randum"]],
            {},
            r"report.compare: no method 'trims-randum'; did you mean 'trims-random'\?",
        ),
        ([["trims", "q"]], {}, "no method 'q'; known: trims, trims-random, untuned"),
        ([["trims", "untuned"]], {"untuned": False}, "no method 'untuned'"),
        ([["trims", "trims"]], {}, "'trims' is compared with itself"),
        ([["a1", "trims"], ["trims", "b2"]], {}, "no method 'a1'.*no method 'b2'"),
    ],
)
def test_wrong_pairs_are_refused_with_the_nearest_name(
    tmp_path: Path, asked: object, sweep: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ReportWorld(tmp_path, variants=ORDERS, report={"compare": asked}, sweep=sweep).config()


def test_levels_are_above_zero_and_one_number_will_do(tmp_path: Path) -> None:
    assert ReportWorld(tmp_path).config().report.levels == (2.5, 4.0, 6.0)
    assert ReportWorld(tmp_path, report={"levels": 3}).config().report.levels == (3.0,)
    with pytest.raises(ConfigError, match=r"report\.levels"):
        ReportWorld(tmp_path, report={"levels": [2.0, 0.0]}).config()


def test_numbers_are_written_with_true_signs() -> None:
    assert signed(-0.0521) == "−5.2"
    assert interval_text({"low": -0.01, "high": 0.113}) == "[−1.0, +11.3]"
    assert [p_text(p) for p in (0.0004, 0.0123, 0.5, 1.0)] == ["< 0.001", "0.012", "0.5", "1"]
