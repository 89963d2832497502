"""Finding, making and cleaning artifacts."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

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
from trims_core.store import Artifact, Manifest, StageKey, Staging, Store, disk_errors, locking, verify
from trims_core.store.artifact import MANIFEST_NAME, read_manifest

KEY = StageKey("corpus", 1, {"limit": 3, "names": ("a", "b")}, {}, {"source": "f" * 64})


def manifest_for(key: StageKey) -> Manifest:
    """A manifest with nothing but the key."""
    return Manifest(
        key.stage,
        key.stage,
        key.version,
        key.fingerprint,
        (),
        config=key.config,
        inputs=key.inputs,
        created_at="2030-01-01T00:00:00+00:00",
    )


def commit(store: Store, text: str = "hello", key: StageKey = KEY, refresh: bool = False) -> Artifact:
    """An artifact with two text files, one in a folder."""
    with store.begin(key, refresh) as staging:
        assert isinstance(staging, Staging)
        (staging.path / "sub").mkdir(exist_ok=True)
        (staging.path / "a.txt").write_text(text)
        (staging.path / "sub" / "b.txt").write_text(text * 2)
        staging.record("all", {"a.txt": None, "sub/b.txt": None}, {"note": 1})
        return store.commit(staging, manifest_for(key), "About it.").artifact


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
        assert isinstance(staging, Staging)
        assert store.find(KEY) == old
    new = commit(store, "new", refresh=True)
    assert new.path == old.path
    assert new.file("a.txt").read_text() == "new"
    (retired,) = [path for path in old.path.parent.iterdir() if path.name.startswith(".retired-")]
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
    for path in made.files():
        os.utime(path, ns=(1, 1))
    Store(store.root).find(KEY)
    read: list[Path] = []
    monkeypatch.setattr(verify, "sha256_file", lambda path: read.append(path) or "")
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


def test_unrecorded_files_do_not_enter_the_artifact(store: Store) -> None:
    with store.begin(KEY) as staging:
        assert isinstance(staging, Staging)
        (staging.path / "a.txt").write_text("a")
        (staging.path / "half").mkdir()
        (staging.path / "half" / "b.tmp").write_text("b")
        staging.record("a", {"a.txt": None})
        (staging.scratch / "checkpoint").write_text("c")
        made = store.commit(staging, manifest_for(KEY)).artifact
    assert store.verify(made, deep=True) == []
    assert sorted(path.name for path in made.path.iterdir()) == ["a.txt", "manifest.json"]
    assert not staging.folder.exists()


def test_clean_takes_leftovers_of_dead_writers_and_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = commit(store, "old")
    commit(store, "new", refresh=True)
    dead = StageKey("corpus", 1, {"limit": 7})
    with store.begin(dead) as staging:
        assert isinstance(staging, Staging)
        assert store.clean(older_than_s=0, retired=False) == [], "its writer lives"
    assert store.clean(older_than_s=3600) == [], "all of it is young"
    monkeypatch.setattr(locking, "process_start", lambda pid: None)
    would = store.clean(older_than_s=0, dry_run=True)
    assert len(would) == 2
    assert all(one.path.exists() for one in would)
    done = store.clean(older_than_s=0)
    assert [one.path for one in done] == [one.path for one in would]
    assert not any(one.path.exists() for one in done)
    assert store.find(KEY) is not None
    assert [path.name for path in kept.path.parent.iterdir()] == [KEY.fingerprint]


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
    locking.sign(tmp_path)
    assert locking.writer_lives(tmp_path)
    path = tmp_path / locking.WRITER_NAME
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "started": about["started"] - 1}))
    assert locking.writer_lives(tmp_path) is False
    path.write_text(json.dumps({**about, "host": "elsewhere"}))
    assert locking.writer_lives(tmp_path) is None


def test_the_verified_memory_survives_a_torn_file(store: Store) -> None:
    commit(store)
    for path in store.root.iterdir():
        if path.name.startswith(".verified"):
            path.write_text("{")
    assert Store(store.root).find(KEY) is not None
    assert FileDigests(store.root / "none.json").save() is None
