"""What the buckets stage promises when its process dies (F2): nothing half-made, a rerun with equal bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.bucket_world import SPECS, write_world

from trims_core.settings import load_config
from trims_core.stage import main
from trims_core.store import Store

pytestmark = pytest.mark.faults

TESTS = Path(__file__).resolve().parent.parent
# Site and hit; the world has four shards, so that the second or third hit lies in the middle.
SITES = [
    "buckets.before_align:kill:2",
    "buckets.after_align:kill:3",
    "buckets.during_scan:kill:2",
    "buckets.before_plan:kill:1",
    "buckets.before_shard:kill:3",
    "buckets.before_record:kill:2",
    "buckets.before_edges:kill:1",
    "buckets.after_edges:kill:1",
    "store.before_rename:kill:1",
]


def stage(root: Path, name: str) -> int:
    """Exit code of one stage, run in this process."""
    return main([name, "--config", str(root / "world.yaml")], specs=SPECS)


def killed_stage(root: Path, fault: str) -> subprocess.CompletedProcess[str]:
    """The buckets stage in a process of its own, with a fault."""
    return subprocess.run(
        [sys.executable, "-m", "fakes.bucket_world", "buckets", "--config", str(root / "world.yaml")],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent))),
            "TRIMS_FAULT": fault,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


def content(root: Path) -> dict[str, bytes]:
    """Bytes of the one committed buckets artifact."""
    (artifact,) = Store(load_config(root / "world.yaml").store).artifacts("buckets")
    return {path.name: path.read_bytes() for path in artifact.files()}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world whose corpus and scores are made."""
    root = tmp_path_factory.mktemp("prepared")
    write_world(root)
    assert stage(root, "corpus") == stage(root, "scores") == 0
    return root


@pytest.fixture(scope="module")
def golden(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run gives."""
    root = _copy(prepared, tmp_path_factory.mktemp("golden") / "world")
    assert stage(root, "buckets") == 0
    return content(root)


def _copy(prepared: Path, root: Path) -> Path:
    """A copy of the prepared world that keeps its identity: the store, source and tokenizer by value."""
    shutil.copytree(prepared, root)
    text = (root / "world.yaml").read_text().replace(str(prepared), str(root))
    (root / "world.yaml").write_text(text)
    return root


def _staging(root: Path) -> Path:
    (folder,) = (path for path in (root / "store" / "buckets").iterdir() if path.name.startswith(".staging-"))
    return folder


@pytest.mark.parametrize("fault", SITES)
def test_a_kill_leaves_no_artifact_and_a_rerun_gives_equal_bytes(
    fault: str, prepared: Path, golden: dict[str, bytes], tmp_path: Path
) -> None:
    root = _copy(prepared, tmp_path / "world")
    died = killed_stage(root, fault)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert Store(root / "store").artifacts("buckets") == []
    # Every JSON file that is there at all is whole.
    for path in (_staging(root)).rglob("*.json"):
        json.loads(path.read_text())
    assert stage(root, "buckets") == 0
    assert content(root) == golden
    assert not [path for path in (root / "store" / "buckets").iterdir() if path.name.startswith(".staging-")]


def test_a_rerun_keeps_the_aligned_shards_that_are_whole(
    prepared: Path, golden: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _copy(prepared, tmp_path / "world")
    killed_stage(root, "buckets.before_plan:kill:1")
    damaged, *_ = sorted(_staging(root).rglob("aligned-*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-20])
    from trims_core.difficulty import aligned

    done: list[str] = []
    real = aligned.align_shard

    def counting(scores_file: Path, *others: object) -> object:
        done.append(scores_file.name)
        return real(scores_file, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(aligned, "align_shard", counting)
    assert stage(root, "buckets") == 0
    assert done == ["scores-00000.parquet"]
    assert content(root) == golden


def test_sigterm_ends_with_its_own_exit_code_and_keeps_finished_shards(
    prepared: Path, golden: dict[str, bytes], tmp_path: Path
) -> None:
    root = _copy(prepared, tmp_path / "world")
    stopped = killed_stage(root, "buckets.before_shard:term:2")
    assert stopped.returncode == 143, stopped.stderr
    assert "the same command continues" in stopped.stderr
    journal = json.loads((_staging(root) / "journal.json").read_text())["units"]
    assert {"plan", "buckets-00000"} <= journal.keys()
    assert stage(root, "buckets") == 0
    assert content(root) == golden


def test_a_full_disk_says_so_and_the_same_command_finishes_later(
    prepared: Path, golden: dict[str, bytes], tmp_path: Path
) -> None:
    root = _copy(prepared, tmp_path / "world")
    full = killed_stage(root, "buckets.before_record:enospc:2")
    assert full.returncode == 75
    assert "DiskFullError" in full.stderr
    assert stage(root, "buckets") == 0
    assert content(root) == golden


def test_a_dead_run_can_be_cleaned_away(prepared: Path, tmp_path: Path) -> None:
    root = _copy(prepared, tmp_path / "world")
    killed_stage(root, "buckets.after_align:kill:1")
    removed = list(Store(root / "store").clean(older_than_s=0.0))
    assert [entry.path.name[:9] for entry in removed] == [".staging-"]


def test_every_fault_point_of_the_stage_has_a_test(project_root: Path) -> None:
    text = (project_root / "trims_core/difficulty/stage.py").read_text()
    sites = {part.split('"')[0] for part in text.split('fault_point("')[1:]}
    assert sites == {fault.split(":")[0] for fault in SITES if fault.startswith("buckets.")}
