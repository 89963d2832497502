"""What the analysis promises when its process or its teacher dies: finished units stay, one is lost."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from fakes import forking
from fakes.analysis_world import analyse, analysis_in, parents_of, write_world
from fakes.decoding_world import config_of
from fakes.teacher import LOG_VARIABLE, asked_rows, n_starts

from trims_core.errors import TeacherUnavailableError
from trims_core.store import Store

pytestmark = pytest.mark.faults

N_UNITS = 6
"""Answers, proposals and teacher of two models, in this order."""
# Site and hit, and the number of units that must be kept.
KILLS = [
    ("analysis.before_unit:kill:4", 3),
    ("analysis.before_record:kill:4", 3),
    ("analysis.before_record:kill:6", 5),
    ("analysis.before_summary:kill:1", N_UNITS),
]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world that was swept and graded, and the content that an undisturbed analysis of it has."""
    root = tmp_path_factory.mktemp("swept")
    write_world(root)
    digest = analyse(root).artifact.content_digest
    (root / "golden").write_text(digest)
    for folder in ("analysis", "units/analysis"):
        shutil.rmtree(root / "store" / folder)
    return root


@pytest.fixture
def world(swept: Path) -> Path:
    """The same without an analysis."""
    for folder in ("analysis", "units/analysis"):
        shutil.rmtree(swept / "store" / folder, ignore_errors=True)
    return swept


def unit_folders(root: Path) -> dict[str, int]:
    """Finished units and when their record was written."""
    folder = root / "store" / "units" / "analysis"
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("[0-9a-f]*/unit.json")}


@pytest.mark.parametrize(("fault", "n_kept"), KILLS, ids=[fault for fault, _ in KILLS])
def test_kill_9_loses_at_most_the_unit_in_flight(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, n_kept: int
) -> None:
    died = forking.run(analysis_in, world, env={"TRIMS_FAULT": fault})
    assert died.code == -signal.SIGKILL, died.err
    store = Store(world / "store")
    assert store.artifacts("analysis") == []
    kept = unit_folders(world)
    assert len(kept) == n_kept
    log = tmp_path / "asked.log"
    monkeypatch.setenv(LOG_VARIABLE, str(log))
    artifact = analyse(world).artifact
    found = unit_folders(world)
    assert (len(found), {name: found[name] for name in kept}) == (N_UNITS, kept)
    assert n_starts(log) == (n_kept < N_UNITS), "a teacher that has nothing to read is not started"
    assert artifact.content_digest == (world / "golden").read_text()
    assert store.verify(artifact, deep=True) == []
    assert list((world / "store" / "analysis" / ".attempts").iterdir()) == []


def test_a_teacher_that_dies_costs_its_unit_and_no_canvas_is_filled_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "asked.log"
    monkeypatch.setenv(LOG_VARIABLE, str(log))
    with pytest.raises(TeacherUnavailableError, match="as it was told to"):
        analyse(world, "scores.options={die_after: 40}")
    kept = unit_folders(world)
    assert len(kept) == 5, "the first model's trajectories were read"
    assert len(asked_rows(log)) == 40
    assert log.read_text().splitlines()[-1] == "close"
    config = config_of(world)
    assert parents_of(config).keys() >= {"sweep/untuned", "sweep/trims-s0"}
    again = analyse(world).artifact
    found = unit_folders(world)
    assert {name: found[name] for name in kept} == kept
    assert len(found) == 5 + 2, "another teacher by its options: its own units, and no others"
    assert again.content_digest == (world / "golden").read_text()
