"""Equal-mass buckets under the total order (difficulty, hash64, id, position)."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.difficulty import buckets
from trims_core.difficulty.buckets import (
    BucketPlan,
    TokenRows,
    check_sizes,
    cut_ranks,
    hash64,
    hash_ids,
    plan_buckets,
)
from trims_core.difficulty.histogram import difficulty_histogram
from trims_core.difficulty.quantiles import Counts, ListColumn
from trims_core.errors import CorruptShardError, InputError

Example = tuple[str, list[float]]

difficulties = st.one_of(st.sampled_from([0.0, -0.0, 0.5, 2.0]), st.floats(0, 100, width=32).map(abs))
corpora = st.lists(st.lists(difficulties, max_size=12), min_size=1, max_size=12).filter(any)


def named(rows: Sequence[list[float]]) -> list[Example]:
    return [(f"example-{i}", row) for i, row in enumerate(rows)]


def token_rows(examples: Sequence[Example]) -> TokenRows:
    offsets = np.cumsum([0, *(len(values) for _, values in examples)])
    flat = np.array([x for _, values in examples for x in values], dtype=np.float32)
    return TokenRows([name for name, _ in examples], offsets, flat)


def bucketed(shards: Sequence[Sequence[Example]], k: int) -> tuple[BucketPlan, dict[str, list[int]]]:
    """The plan, and each example's buckets."""
    return bucketed_with_counts(shards, k)[:2]


def bucketed_with_counts(
    shards: Sequence[Sequence[Example]], k: int
) -> tuple[BucketPlan, dict[str, list[int]], Counts]:
    """The plan, each example's buckets and the upper counts, by way of Parquet files as in a run."""
    kept = [token_rows(shard) for shard in shards]

    def rows() -> Iterator[TokenRows]:
        yield from kept

    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, shard in enumerate(shards):
            lists = pa.array([values for _, values in shard], type=pa.list_(pa.float32()))
            files.append(Path(folder, f"{number}.parquet"))
            pq.write_table(pa.table({"x": lists}), files[-1])
        plan, upper = plan_buckets(ListColumn(tuple(files), "x"), rows, k)
    found: dict[str, list[int]] = {}
    for shard_rows in kept:
        assigned = plan.assign(shard_rows)
        assert assigned.dtype == np.uint8
        for i, name in enumerate(shard_rows.ids):
            found[name] = assigned[shard_rows.offsets_R1[i] : shard_rows.offsets_R1[i + 1]].tolist()
    return plan, found, upper


def slow_buckets(examples: Sequence[Example], k: int) -> dict[str, list[int]]:
    """The obvious version: sort all tokens by the whole key and cut the list."""
    order = []
    for name, values in examples:
        hashes = hash64(np.repeat(hash_ids([name]), len(values)), np.arange(len(values)))
        order += [
            (abs(float(np.float32(x))), int(h), name, i)
            for i, (x, h) in enumerate(zip(values, hashes, strict=True))
        ]
    found = {name: [0] * len(values) for name, values in examples}
    for rank, (_, _, name, position) in enumerate(sorted(order)):
        found[name][position] = k - rank * k // len(order)
    return found


@settings(max_examples=80, deadline=None)
@given(corpora, st.integers(1, 12))
def test_buckets_equal_a_full_sort(rows: list[list[float]], k: int) -> None:
    plan, found = bucketed([named(rows)], k)
    assert found == slow_buckets(named(rows), k)
    sizes = np.bincount([b for row in found.values() for b in row], minlength=k + 1)[1:]
    assert sizes.max() - sizes.min() <= 1
    check_sizes(plan, sizes.tolist())


@settings(max_examples=50, deadline=None)
@given(corpora, st.integers(1, 9), st.randoms(use_true_random=False), st.integers(1, 6))
def test_no_sharding_or_order_changes_a_bucket(
    rows: list[list[float]], k: int, shuffler: random.Random, n_shards: int
) -> None:
    examples = named(rows)
    plan, found = bucketed([examples], k)
    shuffled = list(examples)
    shuffler.shuffle(shuffled)
    again, refound = bucketed([shuffled[i::n_shards] for i in range(n_shards)], k)
    assert refound == found
    assert again == plan


def test_a_hundred_shards_equal_one_under_heavy_ties() -> None:
    rng = np.random.default_rng(3)
    examples = [
        (f"e{i}", np.where(rng.random(60) < 0.7, 0.0, rng.gamma(0.3, 1, 60)).astype(np.float32).tolist())
        for i in range(300)
    ]
    plan, found = bucketed([examples], 8)
    assert found == slow_buckets(examples, 8)
    assert sum(cut.last is not None for cut in plan.cuts) == 5  # 70 % zeros lie across five of the seven cuts
    _, refound = bucketed([examples[i::100] for i in range(100)][::-1], 8)
    assert refound == found


def test_equal_values_everywhere_are_split_evenly() -> None:
    _, found = bucketed([[(f"e{i}", [1.5] * 10) for i in range(8)]], 8)
    assert np.bincount([b for row in found.values() for b in row]).tolist() == [0, *[10] * 8]


def test_one_token_is_the_easiest_bucket() -> None:
    plan, found = bucketed([[("only", [3.0])]], 8)
    assert found == {"only": [8]}
    assert plan.sizes == [0] * 7 + [1]


def test_fewer_tokens_than_buckets_leave_buckets_empty() -> None:
    plan, found = bucketed([[("a", [1.0, 3.0, 2.0])]], 8)
    assert found == {"a": [8, 3, 6]}
    assert sorted(plan.sizes) == [0] * 5 + [1] * 3


def test_no_token_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match="no completion tokens"):
        bucketed([[("a", []), ("b", [])]], 4)


def test_the_hardest_tokens_are_bucket_one_and_edges_ascend() -> None:
    plan, found = bucketed([[("a", [8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0])]], 4)
    assert found == {"a": [1, 4, 1, 4, 2, 3, 2, 3]}
    assert plan.edges.tolist() == [2.0, 4.0, 6.0]
    assert plan.sizes == [2, 2, 2, 2]


def test_cut_ranks_are_exact_for_large_counts() -> None:
    assert cut_ranks(10**15 + 1, 3) == [333333333333334, 666666666666668]


def test_equal_hashes_fall_back_to_id_and_position(monkeypatch: pytest.MonkeyPatch) -> None:
    def colliding(id_hash: npt.NDArray[np.uint64], position: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        return np.full(len(id_hash), 7, dtype=np.uint64)

    monkeypatch.setattr(buckets, "hash64", colliding)
    _, found = bucketed([[("b", [0.0] * 3)], [("a", [0.0] * 3)]], 3)
    assert found == {"a": [3, 3, 2], "b": [2, 1, 1]}


def test_the_hash_is_splitmix64_of_blake2b() -> None:
    # The generator's published first outputs for seed 1234567 (reference implementation by S. Vigna).
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    seeds = np.full(4, 1234567, dtype=np.uint64)
    assert hash64(seeds, np.arange(4)).tolist() == outputs
    # RFC 7693's function with an 8-byte digest of "abc", little-endian; computed once with `b2sum -l 64`.
    assert hash_ids(["abc"])[0] == int.from_bytes(bytes.fromhex("d8bb14d833d59559"), "little")


def test_other_sizes_than_planned_are_refused() -> None:
    plan, _ = bucketed([[("a", [0.1, 0.2])]], 2)
    with pytest.raises(CorruptShardError, match=r"bucket sizes \[2, 0\], expected \[1, 1\]"):
        check_sizes(plan, [2, 0])


@settings(max_examples=40, deadline=None)
@given(corpora, st.integers(1, 9))
def test_the_histogram_counts_every_token_once(rows: list[list[float]], k: int) -> None:
    plan, found, upper = bucketed_with_counts([named(rows)], k)
    histogram = difficulty_histogram(plan, upper)
    edges = np.array(histogram["bin_edges_nats"])
    assert (np.diff(edges) > 0).all()
    for bucket in range(1, k + 1):
        values = np.array(
            [
                x
                for (_, row), ids in zip(named(rows), found.values(), strict=True)
                for x, b in zip(row, ids, strict=True)
                if b == bucket
            ],
            dtype=np.float32,
        ).astype(np.float64)
        expected = np.histogram(values[values >= edges[0]], edges)[0]
        assert histogram["counts"][bucket - 1] == expected.tolist()
        assert histogram["n_below"][bucket - 1] == (values < edges[0]).sum()
