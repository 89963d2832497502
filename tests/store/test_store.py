"""Finding, making and cleaning artifacts."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.exceptions import ComputeError

from trims_core.errors import (
    ConfigError,
    CorruptShardError,
    DiskFullError,
    IncompleteArtifactError,
    MissingArtifactError,
)
from trims_core.fingerprint import FileDigests
from trims_core.store import (
    Artifact,
    Attempt,
    Made,
    Manifest,
    StageKey,
    Store,
    UnitKey,
    UnitRecord,
    attempts,
    disk_errors,
    locking,
)
from trims_core.store.artifact import MANIFEST_NAME, UNIT_NAME, content_digest, read_manifest
from trims_core.store.attempts import attempt_lives, retired_folders

KEY = StageKey("corpus", 1, {"limit": 3, "names": ("a", "b")}, {}, {"source": "f" * 64})


def manifest_for(key: StageKey, *units: UnitRecord) -> Manifest:
    """A manifest with nothing but the key and units called part-0, part-1, …"""
    return Manifest(
        key.stage,
        key.stage,
        key.version,
        key.fingerprint,
        tuple(unit.ref(f"part-{number}") for number, unit in enumerate(units)),
        config=key.config,
        inputs=key.inputs,
        created_at="2030-01-01T00:00:00+00:00",
    )


def commit(store: Store, text: str = "hello", key: StageKey = KEY, refresh: bool = False) -> Artifact:
    """An artifact with two text files, one in a folder."""
    with store.begin(key, refresh) as staging:
        assert isinstance(staging, Attempt)
        (staging.path / "sub").mkdir(exist_ok=True)
        (staging.path / "a.txt").write_text(text)
        (staging.path / "sub" / "b.txt").write_text(text * 2)
        files = {"a.txt": None, "sub/b.txt": None}
        return store.commit(staging, manifest_for(key), "About it.", files).artifact


def publish(store: Store, text: str, number: int = 0) -> UnitRecord:
    """A unit of one text file."""
    key = UnitKey(KEY.stage, 1, {"number": number})
    with store.units.attempt(key, store.units.inode(key)) as attempt:
        (attempt.path / "u.txt").write_text(text)
        return store.units.publish(attempt, key, Made({"u.txt": None}))


def commit_units(store: Store, *units: UnitRecord, key: StageKey = KEY) -> Artifact:
    """An artifact of units."""
    with store.begin(key) as staging:
        assert isinstance(staging, Attempt)
        return store.commit(staging, manifest_for(key, *units)).artifact


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_was_never_made_is_not_found(store: Store) -> None:
    assert store.find(KEY) is None
    assert store.artifacts() == []


def test_a_committed_artifact_is_found_with_its_files(store: Store) -> None:
    made = commit(store)
    found = Store(store.root).find(KEY)
    assert found == made
    assert found.path == store.root / "corpus" / KEY.fingerprint
    assert found.file("sub/b.txt").read_text() == "hellohello"
    assert [path.name for path in found.files()] == ["a.txt", "b.txt"]
    assert found.files("sub/", ".txt") == [found.path / "sub" / "b.txt"]
    assert (found.path / "card.md").read_text() == "About it."
    assert json.loads(json.dumps(found.ref())) == found.ref()


def test_a_manifest_comes_back_as_it_was_written(store: Store) -> None:
    made = commit(store)
    again = read_manifest(made.path)
    assert again.to_json() == made.manifest.to_json()
    assert again.key().fingerprint == KEY.fingerprint


def test_the_files_of_an_artifact_are_its_units_in_their_order_and_then_its_own(store: Store) -> None:
    units = [publish(store, text, number) for number, text in enumerate("ab")]
    with store.begin(KEY) as staging:
        assert isinstance(staging, Attempt)
        (staging.path / "all.txt").write_text("all")
        manifest = manifest_for(KEY, units[1], units[0])
        made = store.commit(staging, manifest, files={"all.txt": None}).artifact
    found = Store(store.root).find(KEY)
    assert found == made
    assert [path.read_text() for path in found.files()] == ["b", "a", "all"]
    assert found.file("part-0/u.txt") == units[1].path / "u.txt"
    assert found.files("part-", ".txt") == [unit.path / "u.txt" for unit in reversed(units)]
    assert read_manifest(made.path).to_json() == made.manifest.to_json()
    with pytest.raises(IncompleteArtifactError, match=r"all\.txt"):
        made.file("part-0/unit.json")


def test_one_unit_stands_in_several_artifacts_under_other_names(store: Store) -> None:
    one, two = (publish(store, text, number) for number, text in enumerate("ab"))
    first, other = commit_units(store, one, two), StageKey("corpus", 1, {"limit": 4})
    second = commit_units(store, two, key=other)
    assert first.file("part-1/u.txt") == second.file("part-0/u.txt")
    assert store.verify(first, deep=True) == store.verify(second, deep=True) == []


def test_an_artifact_of_a_unit_that_was_refreshed_with_other_content_is_a_miss(store: Store) -> None:
    made = commit_units(store, publish(store, "a"))
    assert store.find(KEY) == made
    publish(store, "b")
    assert store.find(KEY) is None
    for ask in (store.check, lambda artifact: store.open(artifact.ref())):
        with pytest.raises(MissingArtifactError, match="replaced by other content meanwhile"):
            ask(made)
    (problem,) = store.verify(made, deep=True)
    assert (problem.kind, "refreshed with other content" in problem.message) == ("unit", True)


def test_an_artifact_of_a_unit_that_was_refreshed_with_equal_content_stays_a_hit(store: Store) -> None:
    made = commit_units(store, publish(store, "a"))
    publish(store, "a")
    assert Store(store.root).find(KEY) == made
    store.check(made)
    assert store.verify(made, deep=True) == []


def test_equal_rows_in_other_bytes_are_equal_content(store: Store) -> None:
    def table(compression: str) -> UnitRecord:
        key = UnitKey(KEY.stage, 1, {})
        with store.units.attempt(key, store.units.inode(key)) as attempt:
            values = pa.table({"x": list(range(100))})
            pq.write_table(values, attempt.path / "u.parquet", compression=compression)
            return store.units.publish(attempt, key, Made({"u.parquet": 100}))

    made = commit_units(store, table("none"))
    table("zstd")
    found = Store(store.root).find(KEY)
    assert found is not None
    assert found.content_digest == made.content_digest
    store.check(made)
    assert store.verify(made, deep=True) == []
    (found.file("part-0/u.parquet")).write_bytes(b"rot")
    with pytest.raises(CorruptShardError, match=r"u\.parquet"):
        Store(store.root).find(KEY)


def test_a_unit_that_is_gone_is_named_with_a_remedy(store: Store) -> None:
    unit = publish(store, "a")
    made = commit_units(store, unit)
    shutil.rmtree(unit.path)
    with pytest.raises(
        IncompleteArtifactError, match=r"u\.txt: listed in the manifest.*\n.*--refresh corpus"
    ):
        store.find(KEY)
    assert [problem.kind for problem in store.verify(made)] == ["missing"]


def test_files_outside_the_manifest_cannot_be_opened(store: Store) -> None:
    made = commit(store)
    (made.path / "stray.txt").write_text("x")
    with pytest.raises(IncompleteArtifactError, match=r"stray\.txt.*a\.txt"):
        made.file("stray.txt")


def test_the_content_digest_depends_on_bytes_and_names_only(tmp_path: Path) -> None:
    one, two, other = (
        commit(Store(tmp_path / name), text) for name, text in (("1", "a"), ("2", "a"), ("3", "b"))
    )
    assert one.content_digest == two.content_digest != other.content_digest


@pytest.mark.parametrize(
    "change",
    [
        StageKey("scores", 1, KEY.config, {}, KEY.inputs),
        StageKey("corpus", 2, KEY.config, {}, KEY.inputs),
        StageKey("corpus", 1, {"limit": 4, "names": ["a", "b"]}, {}, KEY.inputs),
        StageKey("corpus", 1, KEY.config, {"corpus": "0" * 64}, KEY.inputs),
        StageKey("corpus", 1, KEY.config, {}, {"source": "0" * 64}),
        StageKey("corpus", 1, KEY.config, {}, KEY.inputs, schema_version=99),
    ],
)
def test_every_part_of_the_key_changes_the_fingerprint(change: StageKey) -> None:
    assert change.fingerprint != KEY.fingerprint


def test_a_second_begin_adopts_what_is_there(store: Store) -> None:
    made = commit(store)
    with store.begin(KEY) as place:
        assert place == made


def test_a_refresh_keeps_the_old_artifact_aside_and_readable_until_the_commit(store: Store) -> None:
    old = commit(store, "old")
    with store.begin(KEY, refresh=True) as staging:
        assert isinstance(staging, Attempt)
        assert store.find(KEY) == old
    new = commit(store, "new", refresh=True)
    assert new.path == old.path
    assert new.file("a.txt").read_text() == "new"
    (retired,) = retired_folders(old.path)
    assert (retired / "a.txt").read_text() == "old"
    assert store.verify(retired, deep=True) == []


def test_refreshing_what_does_not_exist_just_makes_it(store: Store) -> None:
    assert commit(store, refresh=True).file("a.txt").read_text() == "hello"


def test_a_reference_to_replaced_content_is_refused(store: Store) -> None:
    old = commit(store, "old")
    assert store.open(old.ref()) == old
    commit(store, "new", refresh=True)
    with pytest.raises(MissingArtifactError, match="replaced by other content"):
        store.open(old.ref())
    with pytest.raises(MissingArtifactError, match="replaced by other content"):
        store.check(old)


def test_bytes_are_hashed_once_per_host(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = commit(store)
    time.sleep(0.03)  # younger digests are not remembered
    Store(store.root).find(KEY)
    read: list[Path] = []
    monkeypatch.setattr(FileDigests, "read", lambda self, path: read.append(path) or "")
    assert Store(store.root).find(KEY) == made
    assert read == []
    os.utime(made.file("a.txt"), ns=(2, 2))
    with pytest.raises(CorruptShardError):
        Store(store.root).find(KEY)
    assert read == [made.file("a.txt")]


def test_a_manifest_moved_to_another_folder_is_refused(store: Store) -> None:
    made = commit(store)
    other = StageKey("corpus", 1, {"limit": 9})
    made.path.rename(store.folder(other))
    with pytest.raises(IncompleteArtifactError, match="renamed or copied"):
        store.find(other)


def test_a_lost_manifest_is_an_error_and_not_a_miss(store: Store) -> None:
    (commit(store).path / MANIFEST_NAME).unlink()
    with pytest.raises(IncompleteArtifactError, match="--refresh corpus"):
        store.find(KEY)
    assert store.artifacts() == []
    assert len(store.folders()) == 1


def test_a_root_that_is_no_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match="s3://"):
        Store("s3://bucket/store")


def test_the_scratch_does_not_enter_the_artifact(store: Store) -> None:
    with store.begin(KEY) as staging:
        assert isinstance(staging, Attempt)
        (staging.path / "a.txt").write_text("a")
        (staging.scratch / "engine.log").write_text("c")
        made = store.commit(staging, manifest_for(KEY), files={"a.txt": None}).artifact
    assert store.verify(made, deep=True) == []
    assert sorted(path.name for path in made.path.iterdir()) == ["a.txt", "manifest.json"]
    assert not staging.folder.exists()


def leave_a_dead_attempt(store: Store) -> None:
    """What a process that was killed while it wrote an artifact leaves."""
    folder = store.root / "corpus" / ".attempts" / f"{'1' * 64}.1.{os.getpid()}.{socket.gethostname()}"
    (folder / "files").mkdir(parents=True)


def test_clean_takes_leftovers_of_dead_writers_and_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = commit(store, "old")
    commit(store, "new", refresh=True)
    dead = StageKey("corpus", 1, {"limit": 7})
    with store.begin(dead) as staging:
        assert isinstance(staging, Attempt)
        assert store.clean(older_than_s=0, retired=False) == [], "its writer lives"
    assert store.clean(older_than_s=3600) == [], "all of it is young"
    leave_a_dead_attempt(store)
    would = store.clean(older_than_s=0, dry_run=True)
    assert len(would) == 2
    assert all(one.path.exists() for one in would)
    done = store.clean(older_than_s=0)
    assert [one.path for one in done] == [one.path for one in would]
    assert not any(one.path.exists() for one in done)
    assert store.find(KEY) is not None
    names = sorted(path.name for path in kept.path.parent.iterdir() if not path.name.startswith("."))
    assert names == [KEY.fingerprint]
    assert not list(kept.path.parent.glob(".lock-*"))


def test_clean_takes_units_that_nothing_lists(store: Store) -> None:
    listed, loose, retired = (publish(store, text, number) for number, text in enumerate("abc"))
    commit_units(store, listed, retired)
    made = store.retire(KEY)
    assert made is not None
    assert store.clean(older_than_s=3600) == [], "the loose one may belong to a run that was cut off"
    assert store.clean(older_than_s=0, units=False, retired=False) == []
    would = store.clean(older_than_s=0, retired=False, dry_run=True)
    assert [one.path for one in would] == [loose.path]
    assert loose.path.exists()
    (removed,) = store.clean(older_than_s=0, retired=False)
    assert (removed.size_bytes, removed.why) == (would[0].size_bytes, "no artifact lists it")
    assert [unit.path.exists() for unit in (listed, loose, retired)] == [True, False, True]
    assert len(store.clean(older_than_s=0)) == 3, "the retired artifact, and then its units"
    assert [path.name for path in listed.path.parent.iterdir()] == [".attempts", ".retired"]


def test_clean_leaves_unlisted_units_while_their_artifact_is_being_made(store: Store) -> None:
    loose = publish(store, "a")
    with store.begin(KEY) as staging:
        assert isinstance(staging, Attempt)
        assert store.clean(older_than_s=0) == []
        made = store.commit(staging, manifest_for(KEY, loose)).artifact
    assert store.clean(older_than_s=0) == []
    assert store.verify(made, deep=True) == []


def test_clean_leaves_unlisted_units_while_another_one_is_made(store: Store) -> None:
    publish(store, "a")
    with store.units.attempt(UnitKey(KEY.stage, 1, {"number": 1})):
        assert store.clean(older_than_s=0) == []
    assert len(store.clean(older_than_s=0)) == 1


def test_a_unit_that_was_found_again_counts_as_young(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = publish(store, "a")
    time.sleep(0.03)
    between = time.time()
    time.sleep(0.03)
    assert store.units.find(unit.key) is not None
    monkeypatch.setattr(time, "time", lambda: between + 3600)
    assert store.clean(older_than_s=3600) == []
    monkeypatch.setattr(time, "time", lambda: between + 7200)
    assert len(store.clean(older_than_s=3600)) == 1


def test_clean_keeps_units_where_a_manifest_does_not_tell_what_it_lists(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    unit = publish(store, "a")
    made = commit_units(store, unit)
    (made.path / MANIFEST_NAME).write_text("{")
    assert store.clean(older_than_s=0) == []
    assert "it may list some" in caplog.text


def test_clean_takes_replaced_units(store: Store) -> None:
    commit_units(store, publish(store, "a"))
    publish(store, "a")
    assert store.clean(older_than_s=3600) == []
    assert store.clean(older_than_s=0, retired=False) == []
    (removed,) = store.clean(older_than_s=0)
    assert removed.path.parent.name == ".retired"
    assert not removed.path.exists()
    assert store.find(KEY) is not None


def test_sizes_are_bytes_per_stage_and_count_a_file_once(store: Store) -> None:
    assert store.sizes() == {}
    unit = publish(store, "x" * 5000)
    commit_units(store, unit)
    commit_units(store, unit, key=StageKey("corpus", 1, {"limit": 4}))
    once = store.sizes()["corpus"]
    manifests = sum(artifact.path.joinpath(MANIFEST_NAME).stat().st_size for artifact in store.artifacts())
    assert once == 5000 + (unit.path / UNIT_NAME).stat().st_size + manifests
    os.link(unit.path / "u.txt", unit.path / "same.txt")
    assert store.sizes() == {"corpus": once}


def test_the_content_digest_does_not_depend_on_the_order_of_files(store: Store) -> None:
    entries = publish(store, "a").files + publish(store, "b", 1).files
    assert content_digest(entries) == content_digest(tuple(reversed(entries)))


def test_clean_removes_an_artifact_only_by_name(store: Store) -> None:
    made = commit(store)
    with pytest.raises(MissingArtifactError, match="stands for 0 artifacts"):
        store.clean(artifact="corpus/0123456789")
    (removed,) = store.clean(artifact=f"corpus/{made.fingerprint[:10]}")
    assert removed.size_bytes > 0
    assert store.find(KEY) is None


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EFBIG, "File too large"),
        ComputeError("File too large (os error 27)"),
        OSError("[Errno 28] Error writing bytes to file"),
    ],
)
def test_a_full_disk_is_recognised_through_every_library(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(DiskFullError, match="MiB are free"), disk_errors(tmp_path):
        raise error


@pytest.mark.parametrize(
    "error", [ValueError("os error"), OSError(errno.EACCES, "no", "/elsewhere"), KeyError(28)]
)
def test_other_errors_pass_unchanged(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value is error


def test_a_pid_that_was_given_to_another_process_counts_as_dead(tmp_path: Path) -> None:
    start = locking.process_start(os.getpid())
    assert start is not None
    name = f"{os.getpid()}.{socket.gethostname()}"
    assert attempt_lives(tmp_path / f"f.{start}.{name}")
    assert not attempt_lives(tmp_path / f"f.{start - 1}.{name}")
    assert not attempt_lives(tmp_path / f"f.{attempts.RELEASED}.1")


def test_the_verified_memory_survives_a_torn_file(store: Store) -> None:
    commit(store)
    for path in store.root.iterdir():
        if path.name.startswith(".verified"):
            path.write_text("{")
    assert Store(store.root).find(KEY) is not None
    assert FileDigests(store.root / "none.json").save() is None


def test_an_artifacts_files_are_flushed_before_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    commit(store, "first")
    seen: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def name(path: Path) -> str:
        text = path.relative_to(store.root).as_posix().partition(".tmp-")[0]
        return re.sub(r"\.attempts/[^/]*", "A", text.replace(KEY.fingerprint, "F"))

    def spy_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_relative_to(store.root):
            seen.append(f"flush {name(path)}")
        fsync(descriptor)

    def spy_rename(one: Path, other: Path) -> Path:
        seen.append(f"rename {name(one)} to {name(Path(other))}")
        return rename(one, other)

    shutil.rmtree(store.folder(KEY))
    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "rename", spy_rename)
    commit(store, "second")
    named = seen.index("rename corpus/A/files to corpus/F")
    before, after = seen[:named], seen[named + 1 :]
    for wanted in ("manifest.json", "card.md", "a.txt", "sub/b.txt", "sub", ""):
        assert f"flush corpus/A/files/{wanted}".rstrip("/") in before, wanted
    assert after[:1] == ["flush corpus"]
