"""What the sweep promises when its process dies or is stopped (F4): finished cells stay, one cell is redone.

Every run that is killed is a process of its own; the run after it is the same command, in this process.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.decoding_world import CELLS, NODE, sweep_artifact, timeless, write_sweep_world

from trims_core.stage import main
from trims_core.store import Store

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
FORWARDS_OF_FIRST_CELL = 32
"""Two batches of at most four sequences with 16 forwards each (checked against the undisturbed run)."""
INSIDE_SECOND_CELL = FORWARDS_OF_FIRST_CELL + 8
# Site and hit, and the number of cells that must be kept.
KILLS = [
    (f"sweep.inside_cell:kill:{INSIDE_SECOND_CELL}", 1),
    ("sweep.before_cell:kill:2", 1),
    ("sweep.after_samples:kill:2", 1),
    ("sweep.after_cell:kill:2", 2),
    ("sweep.before_summary:kill:1", 3),
]


def _command(root: Path) -> list[str]:
    return ["sweep", "--node", NODE, "--config", str(root / "tiny.yaml")]


def _start(root: Path, fault: str) -> subprocess.Popen[str]:
    """The stage in a process of its own, with a fault."""
    return subprocess.Popen(
        [sys.executable, "-m", "trims_core.stage", *_command(root)],
        cwd=ROOT,
        env={**os.environ, "TRIMS_FAULT": fault, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _journalled(root: Path) -> list[str]:
    """Cells that a later run will not repeat."""
    journals = list((root / "store").glob("sweep/.staging-*/journal.json"))
    return [unit for path in journals for unit in json.loads(path.read_text())["units"] if unit in CELLS]


def _parquet_files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "store").rglob("*.parquet")}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world and an undisturbed run of it in `golden`."""
    root = tmp_path_factory.mktemp("prepared")
    write_sweep_world(root)
    return root


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the killed processes, so that the same sequences share a batch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def golden(prepared: Path, _one_thread: None) -> dict[str, Any]:
    """What a run without faults finds."""
    assert main(_command(prepared)) == 0
    found = timeless(sweep_artifact(prepared))
    per_sequence = set(found["demo-tone"]["n_forwards"])
    assert per_sequence == {FORWARDS_OF_FIRST_CELL // 2}
    shutil.rmtree(prepared / "store")
    return found


@pytest.fixture
def world(prepared: Path, golden: dict[str, Any]) -> Iterator[Path]:
    """The same world with an empty store."""
    yield prepared
    shutil.rmtree(prepared / "store")


def _finishes(root: Path, golden: dict[str, Any], kept: dict[str, bytes]) -> None:
    """The same command ends well, keeps the finished cells' bytes and finds what an undisturbed run finds."""
    assert main(_command(root)) == 0
    artifact = sweep_artifact(root)
    assert {name: artifact.file(f"cells/{name}").read_bytes() for name in kept} == kept
    assert timeless(artifact) == golden
    assert Store(root / "store").verify(artifact, deep=True) == []
    assert list((root / "store" / "sweep").glob(".staging-*")) == []


@pytest.mark.parametrize(("fault", "n_kept"), KILLS, ids=[fault for fault, _ in KILLS])
def test_kill_9_loses_at_most_the_cell_in_flight(
    world: Path, golden: dict[str, Any], fault: str, n_kept: int
) -> None:
    process = _start(world, fault)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    assert Store(world / "store").artifacts("sweep") == []
    kept = _journalled(world)
    assert kept == list(CELLS[:n_kept])
    files = _parquet_files(world)
    _finishes(world, golden, {f"{unit}.parquet": files[f"{unit}.parquet"] for unit in kept})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_inside_a_cell_stops_soon_keeps_finished_cells_and_says_how_to_go_on(
    world: Path, golden: dict[str, Any], number: signal.Signals
) -> None:
    process = _start(world, f"sweep.inside_cell:hang:{INSIDE_SECOND_CELL}")
    deadline = time.monotonic() + 100
    while _journalled(world) != ["demo-tone"] and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert f"stopped by {number.name}; finished parts are kept, the same command continues" in errors
    assert "Traceback" not in errors
    files = _parquet_files(world)
    assert _journalled(world) == ["demo-tone"]
    _finishes(world, golden, {"demo-tone.parquet": files["demo-tone.parquet"]})
