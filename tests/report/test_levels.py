"""Levels lie where every model was decoded at a threshold, and what is left out is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.report_cells import cell, curve, ones
from hypothesis import given
from hypothesis import strategies as st

from trims_core.points import RuleName
from trims_core.report.cells import Cell
from trims_core.report.levels import LeftOut, choose_levels, common_forwards, ranges_of, round_levels


def test_a_models_range_goes_from_its_slowest_threshold_to_its_fastest() -> None:
    """One token per forward, at 0.9 here, does not extend it downwards."""
    cells = curve("trims", (90, 80, 60), tpf=(0.9, 2.15, 5.0)) + curve("untuned", (90, 70), tpf=(0.9, 2.0))
    assert ranges_of(cells) == {"trims-s0": pytest.approx((2.15, 5.0)), "untuned": pytest.approx((2.0, 2.0))}


def test_a_level_below_an_arms_slowest_threshold_is_no_level() -> None:
    found = choose_levels({"standard-s0": (1.9, 6.4), "trims-s1": (2.15, 7.0)}, (2.0, 4.0, 6.0, 6.5))
    assert found.shared == (2.15, 6.4)
    assert (found.tpf, found.automatic) == ((4.0, 6.0), False)
    assert found.left_out == (
        LeftOut(2.0, "trims-s1", "slowest", 2.15),
        LeftOut(6.5, "standard-s0", "fastest", 6.4),
    )


def test_without_a_configured_level_inside_round_numbers_are_taken() -> None:
    found = choose_levels({"a": (1.1, 1.9), "b": (1.05, 3.0)}, (2.5, 4.0))
    assert found.automatic
    assert found.tpf == (1.2, 1.4, 1.6, 1.8)
    assert [one.model for one in found.left_out] == ["a", "a"]
    assert choose_levels({"a": (2.0, 5.2), "b": (1.1, 6.3)}, ()).tpf == (2.0, 3.0, 4.0, 5.0)


def test_the_ends_of_the_range_are_inside_and_levels_come_once_and_in_order() -> None:
    found = choose_levels({"a": (2.5, 6.0)}, (6.0, 2.5, 4.0, 4.0))
    assert found.tpf == (2.5, 4.0, 6.0)
    assert found.left_out == ()


def test_ranges_that_do_not_overlap_share_nothing() -> None:
    found = choose_levels({"a": (1.0, 2.0), "b": (3.0, 4.0)}, (2.5,))
    assert (found.shared, found.tpf) == (None, ())


def test_a_model_without_thresholds_leaves_no_range() -> None:
    cells = [cell("untuned", None, ones(50)), *curve("trims", (80, 70, 60))]
    found = choose_levels(ranges_of(cells), (2.5,))
    assert found.shared is None
    assert found.left_out == (LeftOut(2.5, "untuned", "fastest", 1.0),)


def test_equal_forwards_are_those_of_every_model_where_no_range_is_shared() -> None:
    def cells(rule: RuleName, *points: tuple[str, float | None]) -> list[Cell]:
        return [replace(cell(name, point, ones(5, 10)), rule=rule) for name, point in points]

    points = (("a", 6), ("a", 12), ("a", None), ("b", 12), ("b", 6), ("b", 3))
    assert common_forwards(cells("steps", *points)) == (6, 12)
    assert common_forwards(cells("entropy", *points)) == ()
    assert choose_levels({"a": (1.0, 2.0), "b": (3.0, 4.0)}, (), (6, 12)).forwards == (6, 12)
    assert choose_levels({"a": (1.0, 3.0), "b": (2.0, 4.0)}, (), (6, 12)).forwards == ()


@given(low=st.floats(0.5, 20), width=st.floats(0, 40))
def test_round_levels_are_few_and_inside(low: float, width: float) -> None:
    levels = round_levels(low, low + width)
    assert len(levels) <= 6
    assert levels == sorted(set(levels))
    assert all(low <= level <= low + width for level in levels)
    if width > 0.1:
        assert levels
