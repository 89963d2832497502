"""Drift between two bucketings: joined by id, ties averaged, what cannot be compared is counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes.chain_world import ChainWorld, rows

from trims_core.drift import bucket_drift
from trims_core.errors import SchemaError
from trims_core.schema import BUCKETS, write_table

Row = tuple[str, list[int], int, list[float], list[int]]


def _shard(path: Path, rows: Sequence[Row]) -> Path:
    names = ("id", "input_ids", "prompt_length", "difficulty_nats", "bucket")
    write_table(path, BUCKETS, {name: [row[i] for row in rows] for i, name in enumerate(names)})
    return path


ROW_A: Row = ("a", [1, 2, 3, 4], 1, [0.1, 0.2, 0.3], [2, 2, 1])
ROW_B: Row = ("b", [1, 5, 6], 1, [0.9, 0.0], [1, 2])


def test_equal_bucketings_do_not_drift(tmp_path: Path) -> None:
    old = _shard(tmp_path / "old.parquet", [ROW_A, ROW_B])
    drift = bucket_drift([old], [old])
    assert (drift.spearman, drift.share_changed_bucket, drift.n_tokens) == (1.0, 0.0, 5)


def test_examples_are_joined_by_id_whatever_their_order_and_sharding(tmp_path: Path) -> None:
    old = _shard(tmp_path / "old.parquet", [ROW_A, ROW_B])
    first, second = _shard(tmp_path / "0.parquet", [ROW_B]), _shard(tmp_path / "1.parquet", [ROW_A])
    assert bucket_drift([old], [first, second]).spearman == 1.0


def test_changed_buckets_are_a_share_of_all_tokens(tmp_path: Path) -> None:
    old = _shard(tmp_path / "old.parquet", [ROW_A, ROW_B])
    moved: Row = ("b", [1, 5, 6], 1, [0.0, 0.9], [2, 1])
    new = _shard(tmp_path / "new.parquet", [ROW_A, moved])
    drift = bucket_drift([old], [new])
    assert drift.share_changed_bucket == pytest.approx(2 / 5)
    assert drift.spearman is not None
    assert drift.spearman < 1.0


def test_examples_on_one_side_or_with_other_tokens_are_counted_not_compared(tmp_path: Path) -> None:
    other_tokens: Row = ("b", [1, 7, 6], 1, [5.0, 5.0], [1, 1])
    only_new: Row = ("c", [1, 2], 1, [0.5], [1])
    old = _shard(tmp_path / "old.parquet", [ROW_A, ROW_B])
    new = _shard(tmp_path / "new.parquet", [ROW_A, other_tokens, only_new])
    drift = bucket_drift([old], [new])
    assert (drift.n_examples, drift.n_examples_incomparable) == (1, 1)
    assert (drift.n_examples_only_old, drift.n_examples_only_new) == (0, 1)
    assert drift.n_tokens == 3


def test_nothing_in_common_is_an_error_not_a_perfect_score(tmp_path: Path) -> None:
    old, new = _shard(tmp_path / "old.parquet", [ROW_A]), _shard(tmp_path / "new.parquet", [ROW_B])
    with pytest.raises(SchemaError, match="same id"):
        bucket_drift([old], [new])


def test_any_order_and_sharding_of_the_same_rows_gives_the_same_drift(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    old, new = [], []
    for number in range(40):
        n_tokens = int(generator.integers(1, 9))
        ids = [1, *generator.integers(2, 9, n_tokens).tolist()]
        for side in (old, new):
            values = generator.integers(0, 5, n_tokens) / 4
            side.append((f"r{number}", ids, 1, values.tolist(), (5 - values * 4).astype(int).tolist()))
    whole = bucket_drift([_shard(tmp_path / "o.parquet", old)], [_shard(tmp_path / "n.parquet", new)])
    shuffled = [new[i] for i in generator.permutation(len(new))]
    parts = [_shard(tmp_path / f"{i}.parquet", shuffled[i::7]) for i in range(7)]
    halves = [_shard(tmp_path / f"o{i}.parquet", old[i::2]) for i in range(2)]
    assert bucket_drift(halves, parts) == whole
    assert (whole.n_examples, whole.k_old, whole.k_new) == (40, 5, 5)


def test_artifacts_of_the_buckets_stage_are_compared_by_their_shards(tmp_path: Path) -> None:
    world = ChainWorld(tmp_path).write(rows(30))
    scores = {"options": {"entropy": True}}  # half of each nll
    old, new = (
        world.run(corpus={"rows_per_shard": size}, scores=scores, buckets={"k": 4, "metric": metric})
        for size, metric in ((4, "nll"), (16, "entropy"))
    )
    drift = bucket_drift(*(done["buckets"].artifact.files("buckets-", ".parquet") for done in (old, new)))
    assert (drift.n_examples, drift.n_examples_incomparable) == (30, 0)
    assert (drift.spearman, drift.share_changed_bucket) == (1.0, 0.0)
    assert drift.mean_new_nats == pytest.approx(drift.mean_old_nats / 2)
    assert drift.n_tokens == old["buckets"].artifact.manifest.counts["n_tokens"]
