"""What sweep and grades promise when their process dies or is stopped (F4): finished units stay, one is lost.

Every run that is killed is a process of its own; the run after it is the same command, in this process. A
cell consists of two chunks here.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import forking
from fakes.decoding_world import (
    CHUNK,
    GRADES_NODE,
    NODE,
    main_in_chunks,
    sweep_artifact,
    timeless,
    unit_bytes,
    write_sweep_world,
)

from trims_core.stage import main
from trims_core.store import Store
from trims_core.sweep import stage

pytestmark = pytest.mark.faults

FORWARDS_OF_FIRST_UNIT = 16
"""One batch of four sequences with 16 forwards each (checked against the undisturbed run)."""
INSIDE_SECOND_UNIT = FORWARDS_OF_FIRST_UNIT + 8
N_UNITS = 6
# Site and hit, and the number of units that must be kept.
KILLS = [
    (f"sweep.inside_chunk:kill:{INSIDE_SECOND_UNIT}", 1),
    ("sweep.before_chunk:kill:2", 1),
    ("sweep.before_record:kill:4", 3),
    ("store.after_publish:kill:2", 2),
    ("sweep.before_summary:kill:1", N_UNITS),
]
GRADES_KILLS = [("grades.before_record:kill:3", 2), ("grades.before_summary:kill:1", N_UNITS)]


def _command(root: Path, node: str = NODE) -> list[str]:
    return [node.partition("/")[0], "--node", node, "--config", str(root / "tiny.yaml")]


def _start(root: Path, fault: str, node: str = NODE) -> forking.Forked:
    """The stage in a process of its own, with a fault."""
    return forking.start(main_in_chunks, _command(root, node), env={"TRIMS_FAULT": fault})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world."""
    root = tmp_path_factory.mktemp("prepared")
    write_sweep_world(root)
    return root


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the killed processes, so that the same sequences share a batch; and their chunks."""
    before, chunk = torch.get_num_threads(), stage.CHUNK
    torch.set_num_threads(1)
    stage.CHUNK = CHUNK
    yield
    torch.set_num_threads(before)
    stage.CHUNK = chunk


@pytest.fixture(scope="module")
def golden(prepared: Path, _one_thread: None) -> dict[str, Any]:
    """What a run without faults finds."""
    assert main(_command(prepared)) == 0
    found = timeless(sweep_artifact(prepared))
    assert set(found["demo-tone"]["n_forwards"]) == {FORWARDS_OF_FIRST_UNIT}
    shutil.rmtree(prepared / "store")
    return found


@pytest.fixture
def world(prepared: Path, golden: dict[str, Any]) -> Iterator[Path]:
    """The same world with an empty store."""
    yield prepared
    shutil.rmtree(prepared / "store")


def _finishes(root: Path, golden: dict[str, Any], kept: dict[str, bytes]) -> None:
    """The same command ends well, keeps the finished units' bytes and finds what an undisturbed run finds."""
    assert main(_command(root)) == 0
    artifact = sweep_artifact(root)
    found = unit_bytes(root)
    assert (len(found), {name: found[name] for name in kept}) == (N_UNITS, kept)
    assert timeless(artifact) == golden
    assert Store(root / "store").verify(artifact, deep=True) == []
    assert list((root / "store" / "sweep" / ".attempts").iterdir()) == []


@pytest.mark.parametrize(("fault", "n_kept"), KILLS, ids=[fault for fault, _ in KILLS])
def test_kill_9_loses_at_most_the_unit_in_flight(
    world: Path, golden: dict[str, Any], fault: str, n_kept: int
) -> None:
    died = _start(world, fault).ended()
    assert died.code == -signal.SIGKILL, died.err
    assert Store(world / "store").artifacts("sweep") == []
    kept = unit_bytes(world)
    assert len(kept) == n_kept
    _finishes(world, golden, kept)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_inside_a_unit_stops_soon_keeps_finished_ones_and_says_how_to_go_on(
    world: Path, golden: dict[str, Any], number: signal.Signals
) -> None:
    process = _start(world, f"sweep.inside_chunk:hang:{INSIDE_SECOND_UNIT}")
    process.wait_until(lambda: len(unit_bytes(world)) == 1)
    time.sleep(0.5)
    os.kill(process.pid, number)
    stopped = process.ended(60)
    assert stopped.code == 143, stopped.err
    assert f"stopped by {number.name}; finished parts are kept, the same command continues" in stopped.err
    assert "Traceback" not in stopped.err
    kept = unit_bytes(world)
    assert len(kept) == 1
    _finishes(world, golden, kept)


@pytest.mark.parametrize(("fault", "n_kept"), GRADES_KILLS, ids=[fault for fault, _ in GRADES_KILLS])
def test_killed_grading_keeps_its_units_and_ends_like_an_undisturbed_run(
    world: Path, fault: str, n_kept: int
) -> None:
    assert main(_command(world)) == 0
    assert main(_command(world, GRADES_NODE)) == 0
    store = Store(world / "store")
    (undisturbed,) = store.artifacts("grades")
    expected = unit_bytes(world, "grades"), undisturbed.content_digest
    shutil.rmtree(world / "store" / "grades")
    shutil.rmtree(world / "store" / "units" / "grades")
    died = _start(world, fault, GRADES_NODE).ended()
    assert died.code == -signal.SIGKILL, died.err
    assert len(unit_bytes(world, "grades")) == n_kept
    assert store.artifacts("grades") == []
    assert main(_command(world, GRADES_NODE)) == 0
    (again,) = Store(world / "store").artifacts("grades")
    assert (unit_bytes(world, "grades"), again.content_digest) == expected
