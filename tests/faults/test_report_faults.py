"""A report that dies before it is recorded leaves nothing, and the rerun gives what it would have been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.report_world import ReportWorld

from trims_core.rendering import load_tokenizer
from trims_core.report.results import collect, to_json
from trims_core.store import Store

pytestmark = pytest.mark.faults

TESTS = Path(__file__).resolve().parent.parent


def test_a_killed_report_is_not_there_and_the_rerun_completes_it(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path)
    world.parents()
    killed = subprocess.run(
        [sys.executable, "-m", "fakes.report_world", str(tmp_path)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent))),
            "TRIMS_FAULT": "report.before_record:kill:1",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = Store(tmp_path / "store")
    assert list(store.artifacts("report")) == []
    rerun = world.make_report()
    assert rerun.how == "made"
    config = world.config()
    golden = to_json(collect(config, world.parents(), load_tokenizer(config.student.model)))
    assert rerun.artifact.file("results.json").read_bytes() == golden
