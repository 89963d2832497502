"""The buckets stage from artifacts to artifact, with a made-up teacher and a real student tokenizer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.bucket_world import make, write_world

from trims_core.difficulty.buckets import hash64, hash_ids
from trims_core.rendering import load_tokenizer
from trims_core.schema import BUCKETS, provenance, read_table
from trims_core.stage import Result
from trims_core.store import Artifact


def make_buckets(config_file: Path, *overrides: str, since: str | None = None) -> Result:
    """All stages up to buckets of a made-up world."""
    return make(config_file, "buckets", *overrides, since=since)


def rows_of(artifact: Artifact) -> list[dict[str, Any]]:
    return [row for path in artifact.files("buckets-") for row in read_table(path, BUCKETS).to_pylist()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def artifact(world: Path) -> Artifact:
    return make_buckets(world).artifact


def test_completions_end_in_the_token_that_is_asked_for_with_the_same_score(
    world: Path, artifact: Artifact
) -> None:
    other = make_buckets(world, "buckets.supervised_end=eos").artifact
    assert other.fingerprint != artifact.fingerprint
    assert artifact.manifest.config["supervised_end"] == "eot"
    tokenizer = load_tokenizer(str(world.parent / "student"))
    for eot_row, eos_row in zip(rows_of(artifact), rows_of(other), strict=True):
        assert tokenizer.convert_ids_to_tokens(eot_row["input_ids"][-1]) == "<|eot_id|>"
        assert tokenizer.convert_ids_to_tokens(eos_row["input_ids"][-1]) == "<|endoftext|>"
        assert eos_row["input_ids"][:-1] == eot_row["input_ids"][:-1]
        assert eos_row["difficulty_nats"] == eot_row["difficulty_nats"]
        assert eos_row["bucket"] == eot_row["bucket"]


def test_buckets_are_those_of_a_full_sort_over_all_shards(artifact: Artifact) -> None:
    rows, k = rows_of(artifact), 5
    order = []
    for row in rows:
        n = len(row["difficulty_nats"])
        hashes = hash64(np.repeat(hash_ids([row["id"]]), n), np.arange(n))
        order += [
            (x, int(h), row["id"], i)
            for i, (x, h) in enumerate(zip(row["difficulty_nats"], hashes, strict=True))
        ]
    order.sort()
    bucket_of = {(name, i): k - rank * k // len(order) for rank, (_, _, name, i) in enumerate(order)}
    assert all(b == bucket_of[row["id"], i] for row in rows for i, b in enumerate(row["bucket"]))


def test_edges_and_histogram_describe_the_rows(artifact: Artifact) -> None:
    edges = json.loads(artifact.file("edges.json").read_text())
    histogram = json.loads(artifact.file("histogram.json").read_text())
    values = np.array([x for row in rows_of(artifact) for x in row["difficulty_nats"]])
    buckets = np.array([b for row in rows_of(artifact) for b in row["bucket"]])
    sizes = np.bincount(buckets, minlength=6)[1:].tolist()
    assert (edges["k"], edges["metric"], edges["n_tokens"]) == (5, "nll", len(values))
    assert edges["bucket_sizes"] == sizes
    assert max(sizes) - min(sizes) <= 1
    assert edges["edges_nats"] == [values[buckets == b].max() for b in (5, 4, 3, 2)]
    assert (edges["min_nats"], edges["max_nats"]) == (values.min(), values.max())
    assert edges["n_zero"] == (values == 0).sum() > 0
    assert edges["mean_nats"] == pytest.approx(values.mean(), rel=1e-12)
    inside = [
        sum(counts) + below for counts, below in zip(histogram["counts"], histogram["n_below"], strict=True)
    ]
    assert inside == sizes
    assert artifact.manifest.counts["n_tokens"] == len(values)


def test_the_same_rows_in_other_shards_give_the_same_buckets(artifact: Artifact, tmp_path: Path) -> None:
    other = make_buckets(write_world(tmp_path / "other", rows_per_shard=3)).artifact
    assert len(other.files("buckets-")) == 14 > len(artifact.files("buckets-"))
    assert rows_of(other) == rows_of(artifact)
    for name in ("edges.json", "histogram.json"):
        assert other.file(name).read_bytes() == artifact.file(name).read_bytes()


def test_another_k_makes_buckets_only(
    world: Path, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("trims_core.difficulty.aligned.align_shard", refuse)
        other = make_buckets(world, "buckets.k=3")
        assert other.how == "made"
        assert other.artifact.manifest.parents == artifact.manifest.parents
        assert list(artifact.manifest.parents) == ["aligned"]
        assert max(b for row in rows_of(other.artifact) for b in row["bucket"]) == 3
        assert make_buckets(world, "buckets.k=3").how == "cached"


def refuse(*_: object) -> None:
    raise AssertionError("aligned again")


def test_a_refresh_makes_equal_buckets_again(world: Path, artifact: Artifact) -> None:
    again = make_buckets(world, since=datetime.now(UTC).isoformat(timespec="microseconds"))
    assert again.how == "made"
    assert again.artifact.content_digest == artifact.content_digest
    assert again.artifact.manifest.created_at > artifact.manifest.created_at


def test_a_shards_bytes_follow_from_its_key(world: Path, artifact: Artifact, tmp_path: Path) -> None:
    other = make_buckets(write_world(tmp_path / "other")).artifact
    assert [unit.fingerprint for unit in other.units] == [unit.fingerprint for unit in artifact.units]
    for name in artifact.manifest.entries:
        assert other.file(name).read_bytes() == artifact.file(name).read_bytes()
    about = provenance(artifact.file("buckets-00000/buckets.parquet"))["provenance"]
    assert about.keys() == {"k", "metric", "supervised_end", "cuts", "aligned"}
