"""The benchmarks of training run, and both sides of each comparison compute the same."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("script", "fields"),
    [
        ("train_step.py", {"memory_ratio", "time_ratio", "masks_share", "loss_difference"}),
        ("padding.py", {"dead_columns", "useful_columns_230b1b7", "speed_ratio"}),
    ],
)
def test_a_quick_run_ends_well_with_one_line_of_numbers(project_root, script, fields):
    done = subprocess.run(
        [sys.executable, str(project_root / "bench" / script), "--quick"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["bench"] == script.removesuffix(".py")
    assert all(found[name] >= 0 for name in fields)
