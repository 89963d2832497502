"""A report that dies before it is recorded leaves nothing, and the rerun gives what it would have been."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from fakes import forking
from fakes.report_world import ReportWorld, report_in

from trims_core.rendering import load_tokenizer
from trims_core.report.compared import write_comparison
from trims_core.report.results import collect, to_json
from trims_core.report.runs import Run
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


def compare_in(root: Path) -> int:
    """Compares a run with itself under another label, in a folder; gives back the exit code."""
    world = ReportWorld(root, n=20, report={"bootstrap_samples": 100})
    runs = [Run(world.config(), world.parents(), label) for label in ("a", "b")]
    write_comparison(runs, root / "out", title=(root / "title").read_text())
    return 0


def test_a_killed_comparison_leaves_the_page_before_it_and_the_rerun_replaces_it(tmp_path: Path) -> None:
    out, title = tmp_path / "out", tmp_path / "title"
    title.write_text("first")
    assert compare_in(tmp_path) == 0
    first = (out / "results.json").read_bytes()
    title.write_text("second")
    killed = forking.run(compare_in, tmp_path, env={"TRIMS_FAULT": "report.before_compared:kill:1"})
    assert killed.code == -signal.SIGKILL, killed.err
    assert (out / "results.json").read_bytes() == first
    assert compare_in(tmp_path) == 0
    assert (out / "results.json").read_bytes() == first.replace(b'"first"', b'"second"')
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store", "student", "title"]
