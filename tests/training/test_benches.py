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
