"""What the store promises when processes die, disks fill, files rot and two runs meet.

Faults F5 (damaged artifacts), F10 (concurrent runs), F12 (staleness), F6's store part (disk full) and the
store's part of F1 and F20 (kill -9 and SIGTERM at every step of a commit).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes import stages
from fakes.forking import Ended, Forked
from fakes.stage_cli import start
from fakes.stages import SPECS, tiny_config

from trims_core import stage
from trims_core._faults import InjectedFaultError, _hits
from trims_core.config import TrimsConfig
from trims_core.errors import CorruptShardError, IncompleteArtifactError, StoreError
from trims_core.graph import build_graph, node_named
from trims_core.plan import plan
from trims_core.settings import load_config
from trims_core.stage import Result, open_parents, run_node
from trims_core.store import Artifact, Store, UnitRef, attempts

pytestmark = pytest.mark.faults

UNIT_SITES = ["fake.before_record", "store.before_unit", "store.before_publish", "store.after_publish"]
COMMIT_SITES = [*UNIT_SITES, "store.before_manifest", "store.before_rename", "store.after_rename"]
REFRESH_SITES = [*COMMIT_SITES[:-1], "store.before_aside", "store.after_aside"]
ASIDE = ("store.before_aside", "store.after_aside")
WAIT_S = 60.0


@pytest.fixture(autouse=True)
def _fresh_counters() -> Iterator[None]:
    stages.calls.clear()
    _hits.clear()
    yield
    _hits.clear()


def make(config: TrimsConfig, node_id: str, since: str | None = None) -> Result:
    """The artifact of a node whose parents exist."""
    store, node = Store(config.store), node_named(build_graph(config), node_id)
    parents = open_parents(store, config, node, SPECS)
    return run_node(store, config, node, parents, since=since, specs=SPECS)


def now() -> str:
    """The moment a refresh begins."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def make_until(config: TrimsConfig, last: str) -> dict[str, Result]:
    """The artifacts of the first nodes, up to and including one."""
    ids = [node.id for node in build_graph(config)]
    return {node_id: make(config, node_id) for node_id in ids[: ids.index(last) + 1]}


def finals(config: TrimsConfig, name: str) -> list[Path]:
    """Committed folders of a stage."""
    return Store(config.store).folders(name)


def content(artifact: Artifact) -> dict[str, bytes]:
    """Bytes of every data file."""
    return {name: artifact.file(name).read_bytes() for name in artifact.manifest.entries}


def run_cli(root: Path, *arguments: str, env: dict[str, str] | None = None) -> Ended:
    """Exit code, standard output and standard error of the stage command."""
    return start(root, *arguments, env=env).ended(WAIT_S)


def gated(root: Path, gate: Path) -> Forked:
    """The stage command, waiting at a gate once its stage works."""
    process = start(root, "scores", env={"FAKE_GATE": str(gate)})
    process.wait_until(gate.with_suffix(".reached").exists)
    return process


def waiting(root: Path) -> Forked:
    """The stage command, waiting for another process that makes the same."""
    process = start(root, "scores")
    process.wait_until(lambda: "\n" in process.said("err"))
    assert "waiting for it" in process.said("err").splitlines()[0]
    return process


def entries(config: TrimsConfig) -> list[str]:
    """Every file and folder of a store, memories of digests left out."""
    root = Path(config.store)
    found = (
        path.relative_to(root) for path in root.rglob("*") if not path.name.startswith((".verified", ".dig"))
    )
    return sorted(path.as_posix() for path in found if path.name not in (".attempts", ".retired"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the store holds after a run that nothing disturbed."""
    config = tiny_config(tmp_path_factory.mktemp("undisturbed"))
    make_until(config, "scores")
    Store(config.store).clean(older_than_s=0)
    return entries(config)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The scores of a run that nothing disturbed."""
    config = tiny_config(tmp_path_factory.mktemp("golden"))
    return content(make_until(config, "scores")["scores"].artifact)


@pytest.mark.parametrize("site", COMMIT_SITES)
def test_kill_minus_9_leaves_nothing_or_all_and_the_same_command_finishes(
    tmp_path: Path, site: str, golden: dict[str, bytes], undisturbed: list[str]
) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")
    nth = 2 if site in UNIT_SITES else 1
    code, _, _ = run_cli(tmp_path, "scores", env={"TRIMS_FAULT": f"{site}:kill:{nth}"})
    assert code == -signal.SIGKILL
    assert len(finals(config, "scores")) == (1 if site == "store.after_rename" else 0)
    stages.calls.clear()
    result = make(config, "scores")
    assert content(result.artifact) == golden
    assert Store(config.store).verify(result.artifact, deep=True) == []
    finished_before = {"store.after_publish": 2}.get(site, 1 if nth == 2 else 3)
    assert len(stages.calls) == stages.N_SHARDS - finished_before
    Store(config.store).clean(older_than_s=0)
    assert entries(config) == undisturbed


@pytest.mark.parametrize("site", REFRESH_SITES)
def test_a_refresh_that_dies_loses_neither_the_old_artifact_nor_its_own_work(
    tmp_path: Path, site: str, golden: dict[str, bytes]
) -> None:
    config = tiny_config(tmp_path)
    old = make_until(config, "scores")["scores"].artifact
    inode = attempts.inode(old.path)
    nth = 2 if site in (*UNIT_SITES, *ASIDE) else 1
    code, _, _ = run_cli(tmp_path, "scores", "--refresh", env={"TRIMS_FAULT": f"{site}:kill:{nth}"})
    assert code == -signal.SIGKILL
    hit = make(config, "scores")
    assert (hit.how, attempts.inode(hit.artifact.path)) == ("cached", inode), "its units have equal content"
    fresh_before = {unit.fingerprint: inode_of(old, unit) for unit in old.units}
    code, out, err = run_cli(tmp_path, "scores", "--refresh")
    assert (code, out.partition(" ")[0]) == (0, "made")
    assert "goes on with the one that began" in err
    again = make(config, "scores").artifact
    assert attempts.inode(again.path) != inode
    assert content(again) == golden
    assert len(attempts.retired_folders(again.path)) == 1
    kept = sum(inode_of(again, unit) == fresh_before[unit.fingerprint] for unit in again.units)
    published = ("store.after_publish", *ASIDE)
    assert kept == (2 if site in published else 1 if nth == 2 else 3)
    assert Store(config.store).verify(again, deep=True) == []


def inode_of(artifact: Artifact, unit: UnitRef) -> int | None:
    """Which folder stands for a unit now."""
    return attempts.inode(artifact.unit_folder(unit))


def test_a_refresh_killed_in_its_second_unit_makes_only_the_rest_and_the_next_one_all(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    old = make_until(config, "scores")["scores"].artifact
    before = [inode_of(old, unit) for unit in old.units]
    code, _, _ = run_cli(tmp_path, "scores", "--refresh", env={"TRIMS_FAULT": "fake.before_record:kill:2"})
    assert code == -signal.SIGKILL
    killed = [inode_of(old, unit) for unit in old.units]
    assert [one == other for one, other in zip(before, killed, strict=True)] == [False, True, True]
    assert run_cli(tmp_path, "scores", "--refresh")[1].startswith("made scores")
    ended = [inode_of(old, unit) for unit in old.units]
    assert [one == other for one, other in zip(killed, ended, strict=True)] == [True, False, False]
    assert run_cli(tmp_path, "scores", "--refresh")[1].startswith("made scores")
    anew = [inode_of(old, unit) for unit in old.units]
    assert not any(one == other for one, other in zip(ended, anew, strict=True))


def test_a_refresh_that_was_killed_after_its_commit_is_over(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make_until(config, "scores")
    code, _, _ = run_cli(tmp_path, "scores", "--refresh", env={"TRIMS_FAULT": "store.after_rename:kill:1"})
    assert code == -signal.SIGKILL
    assert run_cli(tmp_path, "scores", "--refresh")[1].startswith("cached scores")
    assert run_cli(tmp_path, "scores", "--refresh")[1].startswith("made scores")


def test_another_command_does_not_go_on_with_a_killed_refresh(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    old = make_until(config, "scores")["scores"].artifact
    run_cli(tmp_path, "scores", "--refresh", env={"TRIMS_FAULT": "fake.before_record:kill:3"})
    killed = [inode_of(old, unit) for unit in old.units]
    code, out, err = run_cli(tmp_path, "scores", "--refresh", "--set", "scores.batch_size=3")
    assert (code, out.partition(" ")[0], "goes on" in err) == (0, "made", False)
    assert not any(inode_of(old, unit) in killed for unit in old.units)


def test_the_same_command_without_refresh_ends_a_killed_one(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    old = make_until(config, "scores")["scores"].artifact
    run_cli(tmp_path, "scores", "--refresh", env={"TRIMS_FAULT": "fake.before_record:kill:3"})
    killed = [inode_of(old, unit) for unit in old.units]
    assert run_cli(tmp_path, "scores")[1].startswith("cached scores")
    assert run_cli(tmp_path, "scores", "--refresh")[1].startswith("made scores")
    assert not any(inode_of(old, unit) in killed for unit in old.units)


def test_dying_between_the_swap_and_the_retired_name_keeps_both_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path)
    old = make_until(config, "scores")["scores"].artifact
    inode = attempts.inode(old.path)
    monkeypatch.setenv("TRIMS_FAULT", f"store.before_aside:raise:{stages.N_SHARDS + 1}")
    with pytest.raises(InjectedFaultError):
        make(config, "scores", now())
    hit = make(config, "scores")
    assert hit.how == "cached"
    assert attempts.inode(hit.artifact.path) != inode
    make(config, "scores", now())
    assert inode in [attempts.inode(path) for path in attempts.retired_folders(old.path)]


def test_without_an_exchanging_file_system_a_crash_costs_no_unit_and_keeps_the_old_artifact_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path)
    old = make_until(config, "scores")["scores"].artifact
    inode = attempts.inode(old.path)
    monkeypatch.setattr(attempts, "exchange", lambda one, other: False)
    monkeypatch.setenv("TRIMS_FAULT", f"store.after_aside:raise:{stages.N_SHARDS + 1}")
    with pytest.raises(InjectedFaultError):
        make(config, "scores", now())
    assert not old.path.exists()
    stages.calls.clear()
    back = make(config, "scores")
    assert (back.how, stages.calls) == ("made", [])
    assert content(back.artifact) == content(Artifact(attempts.retired_folders(old.path)[0], old.manifest))
    assert [attempts.inode(path) for path in attempts.retired_folders(old.path)] == [inode]


def test_sigterm_keeps_finished_shards_and_exits_143(tmp_path: Path, golden: dict[str, bytes]) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")
    code, _, err = run_cli(tmp_path, "scores", env={"TRIMS_FAULT": "fake.before_shard:term:3"})
    assert code == 143
    assert "InterruptedRunError" in err
    assert "SIGTERM" in err
    stages.calls.clear()
    assert content(make(config, "scores").artifact) == golden
    assert stages.calls == ["scores:scores-00002"]


def test_a_full_disk_is_one_clear_error_and_costs_no_finished_work(
    tmp_path: Path, golden: dict[str, bytes]
) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")
    code, _, err = run_cli(tmp_path, "scores", env={"FAKE_FILE_BYTES": "900"})
    assert code == 75
    assert "DiskFullError" in err
    assert "MiB are free" in err
    assert finals(config, "scores") == []
    assert content(make(config, "scores").artifact) == golden


@pytest.mark.parametrize("site", ["store.before_unit", "store.before_manifest"])
def test_a_disk_that_fills_at_a_unit_or_the_manifest_is_survived(
    tmp_path: Path, site: str, golden: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")
    monkeypatch.setenv("TRIMS_FAULT", f"{site}:enospc")
    with pytest.raises(stage.TrimsError, match="no room to write") as caught:
        make(config, "scores")
    assert caught.value.retryable
    assert finals(config, "scores") == []
    assert content(make(config, "scores").artifact) == golden


def test_two_equal_runs_make_one_artifact_and_the_second_adopts_it(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")
    first, second = gated(tmp_path, tmp_path / "gate"), waiting(tmp_path)
    (tmp_path / "gate").touch()
    made, adopted = first.ended(WAIT_S), second.ended(WAIT_S)
    assert (made.code, adopted.code) == (0, 0)
    assert made.out.startswith("made scores")
    assert adopted.out.startswith("adopted scores")
    assert len(finals(config, "scores")) == 1


def test_nobody_waits_for_a_killed_holder(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")
    holder, waiter = gated(tmp_path, tmp_path / "gate"), waiting(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    code, out, _ = waiter.ended(WAIT_S)
    assert holder.ended(WAIT_S).code == -signal.SIGKILL
    assert code == 0
    assert out.startswith("made scores")


def test_different_settings_on_the_same_input_make_two_artifacts(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")
    first = gated(tmp_path, tmp_path / "gate")
    code, out, _ = run_cli(tmp_path, "scores", "--set", "scores.dtype=bfloat16")
    (tmp_path / "gate").touch()
    assert (first.ended(WAIT_S).code, code) == (0, 0)
    assert out.startswith("made scores")
    assert len(finals(config, "scores")) == 2


def test_if_another_host_commits_first_its_artifact_is_adopted(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    corpus = make(config, "corpus").artifact
    store, node = Store(config.store), node_named(build_graph(config), "scores")
    theirs = tiny_config(tmp_path).model_copy(update={"store": str(tmp_path / "other")})
    make_until(theirs, "scores")

    def finish(work: stage.Work, *about: Any) -> stage.Outcome:
        key = stage.node_key(store, SPECS["scores"], config, node, work.parents)
        shutil.copytree(Store(theirs.store).folder(key), store.folder(key))
        return SPECS["scores"].finish(work, *about)

    late = {**SPECS, "scores": replace(SPECS["scores"], finish=finish)}
    result = run_node(store, config, node, {"corpus": corpus}, specs=late)
    assert result.how == "adopted"
    assert [path.name for path in result.artifact.path.parent.iterdir() if "staging" in path.name] == []


def _truncate(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-20])


def _empty(shard: Path) -> None:
    shard.write_bytes(b"")


def _flip(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 0x40
    shard.write_bytes(bytes(data))


def _swap_with_next(shard: Path) -> None:
    other = next(path for path in sorted(shard.parent.parent.glob("*/scores.parquet")) if path != shard)
    keep = shard.with_suffix(".keep")
    shard.rename(keep)
    other.rename(shard)
    keep.rename(other)


@pytest.mark.parametrize(
    ("damage", "error", "named"),
    [
        (_truncate, CorruptShardError, r"\d+ bytes, expected"),
        (_empty, CorruptShardError, "0 bytes, expected"),
        (Path.unlink, IncompleteArtifactError, "listed in the manifest but not there"),
        (_flip, CorruptShardError, "sha256"),
        (_swap_with_next, CorruptShardError, r"sha256|\d+ bytes, expected"),
    ],
)
def test_a_damaged_parent_stops_its_children_and_names_the_file(
    tmp_path: Path, damage: Callable[[Path], None], error: type[StoreError], named: str
) -> None:
    config = tiny_config(tmp_path)
    scores = make_until(config, "scores")["scores"].artifact
    time.sleep(0.03)  # one tick of the file system's clock, so that the change has another mtime
    shard = scores.file("scores-00000/scores.parquet")
    damage(shard)
    store, node = Store(config.store), node_named(build_graph(config), "aligned")
    with pytest.raises(error, match=rf"{shard}: ({named})"):
        make(config, "scores")
    parents = {"corpus": make(config, "corpus").artifact, "scores": scores}
    with pytest.raises(error, match="--refresh scores"):
        run_node(store, config, node, parents, specs=SPECS)
    assert finals(config, "aligned") == []
    rows = {row.node.id: row for row in plan(store, config, specs=SPECS)}
    assert rows["scores"].why.startswith("damaged")
    assert make(config, "scores", now()).how == "made"
    assert make(config, "aligned").how == "made"


def test_the_stage_command_ends_with_the_errors_code_and_names_the_damaged_file(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    scores = make_until(config, "scores")["scores"].artifact
    _truncate(scores.file("scores-00000/scores.parquet"))
    code, _, err = run_cli(tmp_path, "aligned")
    assert code == CorruptShardError.exit_code
    assert str(scores.file("scores-00000/scores.parquet")) in err


def test_a_file_that_was_copied_in_is_not_read_and_is_reported(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    scores = make_until(config, "scores")["scores"].artifact
    shard = scores.file("scores-00000/scores.parquet")
    shutil.copy(shard, scores.path / "scores-00000.parquet")
    shutil.copy(shard, shard.with_name("scores copy.parquet"))
    shutil.copytree(shard.parent, shard.parent.with_name("copy of it"))
    found = make(config, "scores")
    assert found.how == "cached"
    assert found.artifact.rows("scores-", "/scores.parquet") == stages.N_SHARDS * stages.ROWS
    problems = Store(config.store).verify(found.artifact)
    assert [(problem.kind, problem.path.name) for problem in problems] == [
        ("extra", "scores-00000.parquet"),
        ("extra", "scores copy.parquet"),
    ]


def test_comments_key_order_and_worker_counts_are_hits(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")
    assert run_cli(tmp_path, "scores")[1].startswith("made")
    assert run_cli(tmp_path, "scores", "--set", "scores.batch_size=3")[1].startswith("cached")
    raw = dict(reversed(list(json.loads(config.model_dump_json(exclude_none=True)).items())))
    path = tmp_path / "other.yaml"
    path.write_text("# a comment\n" + json.dumps(raw, indent=2))
    assert make(load_config(path), "scores").how == "cached"


def test_changed_input_content_and_deleted_output_are_made_again(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    first = make_until(config, "scores")
    source = tmp_path / "source.jsonl"
    text = source.read_text()
    source.write_text(text.replace('"a0"', '"z0"'))
    assert [make(config, name).how for name in ("corpus", "scores")] == ["made", "made"]
    assert len(finals(config, "corpus")) == 2
    source.write_text(text)
    os.utime(source)
    assert [make(config, name).how for name in ("corpus", "scores")] == ["cached", "cached"]
    shutil.rmtree(first["scores"].artifact.path)
    stages.calls.clear()
    assert [make(config, name).how for name in ("corpus", "scores")] == ["cached", "made"]
    assert stages.calls == [], "its units are there"
    shutil.rmtree(first["scores"].artifact.path)
    shutil.rmtree(first["scores"].artifact.unit_folder(first["scores"].artifact.units[1]))
    assert make(config, "scores").how == "made"
    assert stages.calls == ["scores:scores-00001"]


def test_a_store_that_cannot_be_written_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("readonly")
    config = tiny_config(root)
    made = make(config, "corpus").artifact
    for folder in (root, *root.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (root / "store").chmod(0o555)
    nobody = 65534
    before = os.geteuid()
    if before == 0:
        os.seteuid(nobody)
    try:
        assert make(config, "corpus").artifact.content_digest == made.content_digest
        with pytest.raises(StoreError, match="not allowed to write here"):
            make(config, "scores")
    finally:
        os.seteuid(before)
        (root / "store").chmod(0o755)
