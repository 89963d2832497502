"""Artifacts of version 0.1 beside today's: read, listed, verified, kept; never taken for today's."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.old_store import write_old

from trims_core.errors import CorruptShardError, IncompleteArtifactError
from trims_core.fingerprint import sha256_json
from trims_core.store import Attempt, Made, Manifest, StageKey, Store, UnitKey
from trims_core.store.attempts import retired_folders

KEY = StageKey("corpus", 1, {})
MANIFEST_OF_01 = "2f474f4b78476a372c19cefae36be43f0ca22be4837eca51e5fd7c9e2742359e"
"""sha256 of the bytes that `Manifest.to_json` of commit 230b1b7 gives for the artifact of the next test."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def old(store: Store) -> Path:
    """The folder of an artifact with a file in a folder and two others."""
    return write_old(store.root, "corpus", {"a.txt": "hello", "sub/b.txt": "b", "empty": ""})


def commit(store: Store, key: StageKey) -> Path:
    """An artifact of today."""
    with store.begin(key) as staging:
        assert isinstance(staging, Attempt)
        (staging.path / "new.txt").write_text("new")
        manifest = Manifest(
            "corpus", "corpus", key.version, key.fingerprint, created_at="2030-01-01T00:00:00+00:00"
        )
        return store.commit(staging, manifest, files={"new.txt": None}).artifact.path


def edit(folder: Path, change: Callable[[dict[str, Any]], object], *, sign: bool = False) -> None:
    """Change a manifest by hand; with `sign`, make its own digest right again."""
    body = json.loads((folder / "manifest.json").read_bytes())
    change(body)
    if sign:
        del body["manifest_digest"]
        body["manifest_digest"] = sha256_json(body)
    (folder / "manifest.json").write_text(json.dumps(body))


def test_the_fake_writes_the_bytes_that_version_01_wrote(tmp_path: Path) -> None:
    parent = {"stage": "buckets", "fingerprint": "d" * 64, "content_digest": "b" * 64}
    folder = write_old(
        tmp_path,
        "train/trims-s0",
        {"metrics.jsonl": "é\n", "adapter/a.txt": "hello"},
        config={"lr": 0.001, "lora": {"r": 4}},
        full_config={"name": "tiny"},
        parents={"buckets": parent},
        inputs={"student": "local:" + "c" * 64},
        versions={"python": "3.11"},
        seed=0,
        counts={"n_in": 2},
        info={"text": "ü"},
        seconds=1.5,
        created_at="2026-01-02T03:04:05.000006+00:00",
    )
    assert hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest() == MANIFEST_OF_01


def test_its_files_are_found_and_its_digest_is_the_one_that_children_noted(store: Store, old: Path) -> None:
    found = store.open(old)
    assert found.file("sub/b.txt").read_text() == "b"
    assert [path.name for path in found.files(suffix=".txt")] == ["a.txt", "b.txt"]
    assert found.content_digest == json.loads((old / "manifest.json").read_bytes())["content_digest"]
    assert store.open(found.ref()) == found
    with pytest.raises(IncompleteArtifactError, match="not in the manifest"):
        found.file("c.txt")


def test_who_asks_for_its_units_is_told_in_one_line_that_it_has_none(store: Store, old: Path) -> None:
    with pytest.raises(IncompleteArtifactError, match=r"version 0\.1, which knew no units") as caught:
        _ = store.open(old).units
    assert "\n" not in str(caught.value)


def test_it_is_listed_beside_todays(store: Store, old: Path) -> None:
    new = commit(store, StageKey("corpus", 2, {}))
    assert [artifact.path for artifact in store.artifacts()] == [new, old]
    assert [artifact.manifest.is_old for artifact in store.artifacts()] == [False, True]


def test_it_is_never_a_hit_and_is_kept_when_its_very_key_is_made(store: Store, old: Path) -> None:
    assert old == store.folder(KEY), "otherwise this test would show nothing"
    assert store.find(KEY) is None
    made = commit(store, KEY)
    assert store.find(KEY) is not None
    assert (made / "new.txt").exists()
    (kept,) = retired_folders(old)
    assert (kept / "a.txt").read_text() == "hello"


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_one_verifies_and_damage_is_named(store: Store, old: Path, deep: bool) -> None:
    assert store.verify(old, deep=deep) == []
    (old / "a.txt").write_text("hEllo")
    (old / "empty").unlink()
    (old / "more").write_text("")
    problems = store.verify(old, deep=deep)
    assert sorted((problem.kind, problem.path.name) for problem in problems) == [
        ("extra", "more"),
        ("missing", "empty"),
        ("sha256", "a.txt"),
    ]
    with pytest.raises(CorruptShardError, match=r"a\.txt"):
        store.open(old)


def test_a_deep_look_holds_it_against_its_parents(store: Store, old: Path) -> None:
    child = write_old(store.root, "scores", {"s.txt": "s"}, parents={"corpus": old})
    assert store.verify(child, deep=True) == []
    write_old(store.root, "corpus", {"a.txt": "other"})
    assert [problem.kind for problem in store.verify(child, deep=True)] == ["parent"]


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(seconds=1.0),
        lambda body: body["files"].pop(),
        lambda body: body.pop("files"),
        lambda body: body.update(more=1),
        lambda body: body.pop("manifest_digest"),
    ],
)
def test_an_edited_manifest_is_one_line_with_the_remedy(
    store: Store, old: Path, change: Callable[[dict[str, Any]], object], caplog: pytest.LogCaptureFixture
) -> None:
    edit(old, change)
    (problem,) = store.verify(old)
    assert re.search(r"made by version 0\.1, and edited.*clean --artifact corpus/", problem.message)
    assert "\n" not in problem.message
    assert store.artifacts() == []
    assert problem.message in caplog.text


@pytest.mark.parametrize("change", [{"files": []}, {"config": {"limit": 1}}])
def test_a_manifest_that_contradicts_itself_is_refused_even_if_signed(
    store: Store, old: Path, change: dict[str, Any]
) -> None:
    edit(old, lambda body: body.update(change), sign=True)
    with pytest.raises(IncompleteArtifactError, match="edited or damaged"):
        store.open(old)


@pytest.mark.parametrize("damaged", [False, True])
def test_clean_keeps_it_and_takes_unlisted_units_beside_it(store: Store, old: Path, damaged: bool) -> None:
    key = UnitKey("corpus", 2, {})
    with store.units.attempt(key) as attempt:
        (attempt.path / "u.txt").write_text("u")
        unit = store.units.publish(attempt, key, Made({"u.txt": None}))
    if damaged:
        edit(old, lambda body: body.update(seconds=1.0))
    (removed,) = store.clean(older_than_s=0)
    assert removed.why == "no artifact lists it"
    assert not unit.path.exists()
    assert (old / "a.txt").exists()
    store.clean(artifact=f"corpus/{old.name[:8]}")
    assert not old.exists()


def test_its_bytes_are_counted(store: Store, old: Path) -> None:
    listed = sum(path.stat().st_size for path in old.rglob("*") if path.is_file())
    assert store.sizes() == {"corpus": listed}
