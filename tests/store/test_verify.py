"""The verifier finds every kind of damage, all of it at once, and nothing in a whole artifact."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.stages import SPECS, tiny_config

from trims_core.fingerprint import sha256_json
from trims_core.graph import build_graph
from trims_core.inspection import table_problems
from trims_core.schema import CORPUS, SCORES, write_table
from trims_core.stage import run_node
from trims_core.store import Artifact, Manifest, StageKey, Store


@pytest.fixture
def scores(tmp_path: Path) -> Artifact:
    """A committed scores artifact with its parent in the same store."""
    config = tiny_config(tmp_path)
    store, (corpus, node, *_) = Store(config.store), build_graph(config)
    parent = run_node(store, config, corpus, {}, specs=SPECS).artifact
    return run_node(store, config, node, {"corpus": parent}, specs=SPECS).artifact


def store_of(artifact: Artifact) -> Store:
    """A store that remembers nothing of this process."""
    return Store(artifact.path.parent.parent)


def kinds(artifact: Artifact, deep: bool = True) -> list[str]:
    """What the verifier finds."""
    return [problem.kind for problem in store_of(artifact).verify(artifact, deep, table_problems)]


def flip(path: Path, offset: int) -> None:
    """Invert one bit in the middle of a file, keeping its size and mtime: rot."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(bytes(data))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def edit_manifest(artifact: Artifact, change: Callable[[dict], None], sign: bool = False) -> None:
    """Change manifest.json by hand; with `sign`, make its own digest right again."""
    path = artifact.path / "manifest.json"
    body = json.loads(path.read_bytes())
    change(body)
    if sign:
        body.pop("own_digest")
        body["own_digest"] = sha256_json(body)
    path.write_text(json.dumps(body))


def test_a_whole_artifact_has_no_problems(scores: Artifact) -> None:
    assert kinds(scores) == []
    assert kinds(scores, deep=False) == []


def test_a_truncated_file_is_found(scores: Artifact) -> None:
    path = scores.file("scores-00001/scores.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    assert kinds(scores) == ["size"]


def test_an_emptied_file_is_found(scores: Artifact) -> None:
    scores.file("scores-00001/scores.parquet").write_bytes(b"")
    assert kinds(scores) == ["size"]


def test_a_missing_file_is_found(scores: Artifact) -> None:
    scores.file("scores-00001/scores.parquet").unlink()
    assert kinds(scores) == ["missing"]


def test_an_extra_file_is_found(scores: Artifact) -> None:
    shutil.copy(scores.file("scores-00001/scores.parquet"), scores.path / "copy.parquet")
    shutil.copy(
        scores.file("scores-00001/scores.parquet"), scores.file("scores-00001/scores.parquet").parent / "b"
    )
    assert kinds(scores) == ["extra", "extra"]
    assert kinds(scores, deep=False) == ["extra", "extra"]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_flipped_bit_is_found_although_the_mtime_is_unchanged(tmp_path: Path, compression: str) -> None:
    values = {"x": list(range(4096))}
    artifact = _commit(tmp_path, lambda path: pq.write_table(pa.table(values), path, compression=compression))
    path = artifact.file("a.parquet")
    flip(path, path.stat().st_size // 3)
    assert "sha256" in kinds(artifact)


def test_swapped_shards_are_found(scores: Artifact) -> None:
    one, two = (scores.file(f"scores-0000{i}/scores.parquet") for i in (0, 1))
    keep = one.with_suffix(".keep")
    one.rename(keep)
    two.rename(one)
    keep.rename(two)
    assert len(kinds(scores)) == 2
    assert len(kinds(scores, deep=False)) == 2


def test_an_edited_manifest_is_found(scores: Artifact) -> None:
    edit_manifest(scores, lambda body: body["counts"].update(n_rejected=1))
    assert kinds(scores, deep=False) == ["manifest"]


def test_a_manifest_edited_and_signed_again_does_not_fit_its_fingerprint(scores: Artifact) -> None:
    edit_manifest(scores, lambda body: body["config"].update(dtype="another"), sign=True)
    assert kinds(scores, deep=False) == ["manifest"]


def test_a_file_dropped_from_a_signed_manifest_is_found(scores: Artifact) -> None:
    edit_manifest(scores, lambda body: body["units"][0]["files"].pop(), sign=True)
    assert kinds(scores, deep=False) == ["manifest"]


def test_a_unit_dropped_from_a_signed_manifest_is_found(scores: Artifact) -> None:
    edit_manifest(scores, lambda body: body["units"].pop(), sign=True)
    assert kinds(scores, deep=False) == ["manifest"]


def test_an_edited_unit_is_found(scores: Artifact) -> None:
    path = scores.unit_folder(scores.units[0]) / "unit.json"
    path.write_bytes(path.read_bytes().replace(b'"n_in": 4', b'"n_in": 5'))
    assert kinds(scores, deep=False) == ["unit"]
    path.unlink()
    assert kinds(scores) == ["unit"]


def test_a_unit_under_another_name_is_found(scores: Artifact) -> None:
    one, two = (scores.unit_folder(unit) for unit in scores.units[:2])
    keep = one.with_suffix(".keep")
    one.rename(keep)
    two.rename(one)
    keep.rename(two)
    assert set(kinds(scores, deep=False)) == {"unit", "sha256"}


def test_a_digest_of_other_rows_is_found_by_reading_them(tmp_path: Path) -> None:
    artifact = _commit(tmp_path, lambda path: pq.write_table(pa.table({"x": [1]}), path))
    (entry,) = artifact.manifest.files
    lying = replace(artifact.manifest, files=(replace(entry, digest="0" * 64),))
    (artifact.path / "manifest.json").write_bytes(lying.to_json())
    assert kinds(artifact, deep=False) == []
    (problem,) = store_of(artifact).verify(artifact, True, table_problems)
    assert (problem.kind, "digest" in problem.message) == ("rows", True)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"manifest_version": 0}'])
def test_a_broken_manifest_is_found(scores: Artifact, text: str) -> None:
    (scores.path / "manifest.json").write_text(text)
    assert kinds(scores, deep=False) == ["manifest"]


def test_a_manifest_that_claims_another_parent_is_found(scores: Artifact) -> None:
    def claim(body: dict) -> None:
        body["parents"]["corpus"]["content_digest"] = "0" * 64

    edit_manifest(scores, claim, sign=True)
    assert kinds(scores) == ["manifest"]


def test_a_parent_with_other_content_than_this_was_made_from_is_found(scores: Artifact) -> None:
    store = store_of(scores)
    (corpus,) = store.artifacts("corpus")
    shutil.rmtree(corpus.path)
    other = _commit(
        corpus.path.parent.parent,
        lambda path: path.write_bytes(b"other"),
        corpus.manifest.key(),
        names=("a.txt",),
    )
    assert other.path == corpus.path
    assert kinds(scores) == ["parent"]


def test_a_refreshed_parent_whose_old_version_is_kept_is_no_problem(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    store, (corpus, node, *_) = Store(config.store), build_graph(config)
    parent = run_node(store, config, corpus, {}, specs=SPECS).artifact
    child = run_node(store, config, node, {"corpus": parent}, specs=SPECS).artifact
    store.retire(parent.manifest.key())
    _commit(store.root, lambda path: path.write_bytes(b"other"), parent.manifest.key(), names=("a.txt",))
    assert kinds(child) == []


def test_an_artifact_under_another_name_is_found(scores: Artifact) -> None:
    moved = scores.path.rename(scores.path.with_name("f" * 64))
    assert [problem.kind for problem in store_of(scores).verify(moved)] == ["manifest"]


def test_an_id_in_two_shards_is_found_although_every_digest_is_right(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        for name in ("b.parquet", "a.parquet"):
            _corpus_table(path.with_name(name), ["x", name])

    artifact = _commit(tmp_path, write, names=("a.parquet", "b.parquet"))
    (problem,) = store_of(artifact).verify(artifact, True, table_problems)
    assert (problem.kind, "'x' occurs in a.parquet" in problem.message) == ("duplicate", True)


def test_a_table_of_another_schema_is_found(tmp_path: Path) -> None:
    names = ["id", "messages", "answer", "source"]

    def write(path: Path) -> None:
        _corpus_table(path, ["x"])
        table = pq.read_table(path)
        pq.write_table(table.rename_columns(names).replace_schema_metadata(table.schema.metadata), path)

    artifact = _commit(tmp_path, write)
    assert kinds(artifact) == ["schema"]
    assert kinds(artifact, deep=False) == []


def test_scores_that_do_not_add_up_are_found(tmp_path: Path) -> None:
    columns = {
        "id": ["a"],
        "token_ids": [[1]],
        "byte_end": [[1]],
        "nll_nats": [[0.5]],
        "entropy_nats": [None],
    }
    artifact = _commit(
        tmp_path,
        lambda path: write_table(path, SCORES, columns),
        StageKey("scores", 1, {}),
        counts={"n_in": 2, "n_out": 1, "n_rejected": 0},
    )
    assert kinds(artifact) == ["counts"]


def test_every_problem_is_reported_not_the_first(scores: Artifact) -> None:
    scores.file("scores-00000/scores.parquet").unlink()
    scores.file("scores-00001/scores.parquet").write_bytes(b"")
    (scores.path / "notes.txt").write_text("mine")
    assert sorted(kinds(scores)) == ["extra", "missing", "size"]


def _corpus_table(path: Path, ids: list[str]) -> None:
    columns = {
        "id": ids,
        "messages": [[{"role": "user", "content": "q"}] for _ in ids],
        "completion": ["a" for _ in ids],
        "source": [f"s:{i}" for i, _ in enumerate(ids)],
    }
    write_table(path, CORPUS, columns)


def _commit(
    root: Path,
    write: Callable[[Path], object],
    key: StageKey | None = None,
    *,
    names: tuple[str, ...] = ("a.parquet",),
    counts: dict[str, int] | None = None,
) -> Artifact:
    """An artifact with the files that `write` puts where the first one belongs."""
    key = key or StageKey("corpus", 1, {})
    store = Store(root)
    with store.begin(key) as staging:
        assert not isinstance(staging, Artifact)
        write(staging.path / names[0])
        manifest = Manifest(
            key.stage,
            "node",
            key.version,
            key.fingerprint,
            (),
            config=key.config,
            inputs=key.inputs,
            counts=counts or {},
        )
        return store.commit(staging, manifest, files=dict.fromkeys(names)).artifact
