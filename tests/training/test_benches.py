"""The benchmarks of training run, and both sides of each comparison compute the same."""

from __future__ import annotations

import pytest
from fakes.benches import quick


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("script", "fields"),
    [
        ("train_step", {"memory_ratio", "time_ratio", "masks_share", "loss_difference"}),
        ("padding", {"dead_columns", "useful_columns_230b1b7", "speed_ratio"}),
    ],
)
def test_a_quick_run_ends_well_with_one_line_of_numbers(script, fields):
    found = quick(script)
    assert all(found[name] >= 0 for name in fields)


@pytest.mark.e2e
@pytest.mark.parametrize("method", ["lift", "tabom"])
def test_a_quick_run_tells_what_a_method_costs_beside_its_passes(method):
    found = quick("train_step", "--method", method)
    assert found["method"] == method
    assert all(
        found[f"{where}{name}_seconds"] > 0 for where in ("", "demo_") for name in ("draw", "sets", "step")
    )
    assert 0 < found["demo_share"] < 1 and 0 < found["share"] < 1


def test_a_method_that_there_is_not_is_told_with_those_that_there_are():
    with pytest.raises(SystemExit, match=r"--method lifft: not a method; there are .*lift, gift"):
        quick("train_step", "--method", "lifft")
