"""A report that dies before it is recorded leaves nothing, and the rerun gives what it would have been."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from fakes import forking
from fakes.report_world import ReportWorld, report_in

from trims_core.rendering import load_tokenizer
from trims_core.report.results import collect, to_json
from trims_core.store import Store

pytestmark = pytest.mark.faults


def test_a_killed_report_is_not_there_and_the_rerun_completes_it(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path)
    world.parents()
    killed = forking.run(report_in, tmp_path, env={"TRIMS_FAULT": "report.before_record:kill:1"})
    assert killed.code == -signal.SIGKILL, killed.err
    store = Store(tmp_path / "store")
    assert list(store.artifacts("report")) == []
    rerun = world.make_report()
    assert rerun.how == "made"
    config = world.config()
    golden = to_json(collect(config, world.parents(), load_tokenizer(config.student.model)))
    assert rerun.artifact.file("results.json").read_bytes() == golden
