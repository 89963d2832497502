"""One made-up run and its report, shared by the tests that only look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.report_world import ReportWorld

from trims_core.store import Artifact


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> ReportWorld:
    """Two seeds, 40 problems, four points per curve, two caches for the untuned student."""
    sweep = {"cache": "dual", "compare_caches": ["none"]}
    return ReportWorld(tmp_path_factory.mktemp("report"), seeds=(0, 1), sweep=sweep)


@pytest.fixture(scope="session")
def parents(world: ReportWorld) -> dict[str, Artifact]:
    """The artifacts the report is made from."""
    return world.parents()


@pytest.fixture(scope="session")
def report(world: ReportWorld, parents: dict[str, Artifact]) -> Path:
    """The folder of the report artifact."""
    return world.make_report().artifact.path


@pytest.fixture(scope="session")
def results(report: Path) -> dict[str, Any]:
    """results.json of the report."""
    found: dict[str, Any] = json.loads((report / "results.json").read_text(encoding="utf-8"))
    return found
