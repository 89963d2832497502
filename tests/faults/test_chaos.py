"""Twelve kills at random moments over the CPU stages; the full bench makes two hundred."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.e2e
def test_a_store_ends_as_if_nothing_had_been_killed(project_root: Path) -> None:
    command = [sys.executable, str(project_root / "bench" / "chaos.py"), "--kills", "12", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["holds"], found["differing"], found["left"]) == (True, [], [])
    assert found["begun_twice"] <= 12
