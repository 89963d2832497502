"""What aligned and buckets promise when their process dies (F2): nothing half-made, the same bytes later."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
from fakes import forking
from fakes.bucket_world import run, write_world

from trims_core.settings import load_config
from trims_core.store import Store

pytestmark = pytest.mark.faults

N_SHARDS = 4
# Site and hit; the world has four shards, so that the second or third hit lies in the middle. At
# store.before_rename all units are there.
ALIGNED = [
    "aligned.before_shard:kill:2",
    "aligned.before_record:kill:3",
    "store.before_publish:kill:2",
    "store.after_publish:kill:2",
    "store.before_rename:kill:1",
]
BUCKETS = [
    "buckets.during_scan:kill:2",
    "buckets.before_shard:kill:3",
    "buckets.before_record:kill:2",
    "buckets.before_edges:kill:1",
    "buckets.after_edges:kill:1",
    "store.after_publish:kill:3",
    "store.before_rename:kill:1",
]
SITES = [("aligned", fault) for fault in ALIGNED] + [("buckets", fault) for fault in BUCKETS]


def stage(root: Path, name: str) -> int:
    """Exit code of one stage, run in this process."""
    return run([name, "--config", str(root / "world.yaml")])


def killed_stage(root: Path, name: str, fault: str) -> forking.Ended:
    """How a stage ended in a process of its own, with a fault."""
    return forking.run(run, [name, "--config", str(root / "world.yaml")], env={"TRIMS_FAULT": fault})


def content(root: Path, *names: str) -> dict[str, bytes]:
    """Bytes of the one committed artifact of each stage."""
    store = Store(load_config(root / "world.yaml").store)
    found: dict[str, bytes] = {}
    for name in names:
        (artifact,) = store.artifacts(name)
        found |= {entry: artifact.file(entry).read_bytes() for entry in artifact.manifest.entries}
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By stage: a world in which all that this stage is made from is there."""
    scored = tmp_path_factory.mktemp("scored")
    write_world(scored)
    assert stage(scored, "corpus") == stage(scored, "scores") == 0
    aligned = _copy(scored, tmp_path_factory.mktemp("aligned") / "world")
    assert stage(aligned, "aligned") == 0
    return {"aligned": scored, "buckets": aligned}


@pytest.fixture(scope="module")
def golden(prepared: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run gives."""
    root = _copy(prepared["buckets"], tmp_path_factory.mktemp("golden") / "world")
    assert stage(root, "buckets") == 0
    return content(root, "aligned", "buckets")


def _copy(prepared: Path, root: Path) -> Path:
    """A copy of the prepared world that keeps its identity: the store, source and tokenizer by value."""
    shutil.copytree(prepared, root)
    text = (root / "world.yaml").read_text().replace(str(prepared), str(root))
    (root / "world.yaml").write_text(text)
    return root


def units(root: Path, name: str) -> list[Path]:
    """Folders of a stage's finished units, in the order they were made."""
    found = (root / "store" / "units" / name).glob("*/unit.json")
    return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]


def leftovers(root: Path, name: str) -> list[Path]:
    """What dead attempts at a stage's units and artifact left."""
    store = root / "store"
    return [*(store / name / ".attempts").glob("*"), *(store / "units" / name / ".attempts").glob("*")]


@pytest.mark.parametrize(("name", "fault"), SITES)
def test_a_kill_leaves_no_artifact_and_a_rerun_gives_equal_bytes(
    name: str, fault: str, prepared: dict[str, Path], golden: dict[str, bytes], tmp_path: Path
) -> None:
    root = _copy(prepared[name], tmp_path / "world")
    died = killed_stage(root, name, fault)
    assert died.code == -signal.SIGKILL, died.err
    assert Store(root / "store").artifacts(name) == []
    assert leftovers(root, name)
    for path in (root / "store").rglob("*.json"):
        json.loads(path.read_text())  # every JSON file that is there at all is whole
    kept = {path.name: (path / "unit.json").read_bytes() for path in units(root, name)}
    assert stage(root, "aligned") == stage(root, "buckets") == 0
    assert content(root, "aligned", "buckets") == golden
    assert {path: (root / "store/units" / name / path / "unit.json").read_bytes() for path in kept} == kept
    # killed right behind its publication, an attempt leaves its empty folder until `clean`
    assert [path for left in leftovers(root, name) for path in left.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("name", "fault", "n_kept"),
    [
        ("aligned", "aligned.before_record:kill:3", 2),
        ("aligned", "store.after_publish:kill:3", 3),
        ("buckets", "buckets.before_shard:kill:3", 2),
        ("buckets", "buckets.before_edges:kill:1", N_SHARDS),
    ],
)
def test_a_kill_loses_the_shard_in_flight_only(
    name: str, fault: str, n_kept: int, prepared: dict[str, Path], tmp_path: Path
) -> None:
    root = _copy(prepared[name], tmp_path / "world")
    killed_stage(root, name, fault)
    assert len(units(root, name)) == n_kept


def test_a_rerun_keeps_the_aligned_shards_that_are_whole(
    prepared: dict[str, Path],
    golden: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = _copy(prepared["aligned"], tmp_path / "world")
    killed_stage(root, "aligned", "store.before_rename:kill:1")
    damaged = units(root, "aligned")[1] / "aligned.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    from trims_core.difficulty import aligned

    done: list[Path] = []
    real = aligned.align_shard

    def counting(scores_file: Path, *others: object) -> object:
        done.append(scores_file)
        return real(scores_file, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(aligned, "align_shard", counting)
    assert stage(root, "aligned") == 0
    (scores,) = Store(root / "store").artifacts("scores")
    assert done == [scores.file("scores-00001/scores.parquet")]
    assert stage(root, "buckets") == 0
    assert content(root, "aligned", "buckets") == golden


@pytest.mark.parametrize("name", ["aligned", "buckets"])
def test_sigterm_ends_with_its_own_exit_code_and_keeps_finished_shards(
    name: str, prepared: dict[str, Path], golden: dict[str, bytes], tmp_path: Path
) -> None:
    root = _copy(prepared[name], tmp_path / "world")
    stopped = killed_stage(root, name, f"{name}.before_shard:term:2")
    assert stopped.code == 143, stopped.err
    assert "the same command continues" in stopped.err
    assert len(units(root, name)) == 1
    assert stage(root, "aligned") == stage(root, "buckets") == 0
    assert content(root, "aligned", "buckets") == golden


@pytest.mark.parametrize("name", ["aligned", "buckets"])
def test_a_full_disk_says_so_and_the_same_command_finishes_later(
    name: str, prepared: dict[str, Path], golden: dict[str, bytes], tmp_path: Path
) -> None:
    root = _copy(prepared[name], tmp_path / "world")
    full = killed_stage(root, name, f"{name}.before_record:enospc:2")
    assert full.code == 75
    assert "DiskFullError" in full.err
    assert stage(root, "aligned") == stage(root, "buckets") == 0
    assert content(root, "aligned", "buckets") == golden


def test_a_dead_run_can_be_cleaned_away(prepared: dict[str, Path], tmp_path: Path) -> None:
    root = _copy(prepared["buckets"], tmp_path / "world")
    killed_stage(root, "buckets", "buckets.before_record:kill:1")
    assert len(leftovers(root, "buckets")) == 2, "of the artifact and of the unit in flight"
    assert len(Store(root / "store").clean(older_than_s=0.0)) >= 2
    assert leftovers(root, "buckets") == []


def test_every_fault_point_of_the_stages_has_a_test(project_root: Path) -> None:
    folder = project_root / "trims_core/difficulty"
    text = "".join((folder / f"{name}_stage.py").read_text() for name in ("aligned", "buckets"))
    sites = {part.split('"')[0] for part in text.split('fault_point("')[1:]}
    struck = {fault.split(":")[0] for _, fault in SITES}
    assert sites == {site for site in struck if not site.startswith("store.")}
