"""K equal-mass buckets of all tokens under one total order, exact and independent of how rows are split.

Tokens are ranked by (difficulty, hash64(id, position), id, position), ascending. With n tokens the cuts lie
at ⌈g·n/K⌉ for g = 1 … K−1, so group g holds the ranks from ⌈g·n/K⌉ up to the next cut and sizes differ by
at most 1; the group of the lowest ranks is bucket K (easiest), that of the highest is bucket 1 (hardest).
An edge is the difficulty of the last token below a cut. A confident teacher gives many tokens the same value
(0.0 nats), and such a group may lie across several cuts: then the hash decides inside it, and a cut also has
the key of the last token below it.

Degenerate input is defined: fewer tokens than K leave buckets empty (sizes still differ by at most 1), one
token alone is bucket K, equal values everywhere are split by the hash alone. No token at all is an error.

The ranked difficulty is the stored float32. Positions count the completion's tokens from 0.

Source: method description, "Ties matter"; own derivation, checked against a full sort in
tests/difficulty/test_buckets.py.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from trims_core.difficulty.quantiles import (
    HALF,
    Counts,
    ListColumn,
    OrderStatistics,
    Ticker,
    order_statistics,
)
from trims_core.errors import CorruptShardError, InputError

Key = tuple[int, str, int]
"""(hash64, id, position): the order inside a group of equal difficulties."""

# SplitMix64. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_HASH_SHIFT: Final = np.uint64(48)


def hash_ids(ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """The first 64 bits of BLAKE2b (digest_size 8) of each id's UTF-8 bytes, read as little-endian."""
    digests = b"".join(hashlib.blake2b(one.encode(), digest_size=8).digest() for one in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def hash64(id_hash_N: npt.NDArray[np.uint64], position_N: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Output number `position` of a SplitMix64 generator seeded with the id's hash.

    The same on every platform and library version, and without collisions inside one example.
    """
    z = id_hash_N + (position_N.astype(np.uint64) + np.uint64(1)) * _GAMMA
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    hashed: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return hashed


@dataclass(frozen=True)
class TokenRows:
    """Examples of one shard: row r owns values_N[offsets_R1[r] : offsets_R1[r + 1]]."""

    ids: Sequence[str]
    offsets_R1: npt.NDArray[np.int64]
    values_N: npt.NDArray[np.float32]

    def keys(self, index_N: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint64], Counts, Counts]:
        """(hash64, row, position) of the tokens at some indices of values_N."""
        row_N = np.searchsorted(self.offsets_R1, index_N, side="right") - 1
        position_N = index_N - self.offsets_R1[row_N]
        rows, inverse = np.unique(row_N, return_inverse=True)
        id_hash = hash_ids(self.ids[row] for row in rows)
        return hash64(id_hash[inverse], position_N), row_N, position_N


Rows = Callable[[], Iterator[TokenRows]]
"""Starts a new pass over all shards; what is bounded by one shard is the memory."""


@dataclass(frozen=True)
class Cut:
    """What lies below a cut: every token under `edge`, and of those equal to it the ones up to `last`."""

    rank: int
    edge: np.float32
    last: Key | None
    """None: all tokens equal to the edge lie below the cut."""


@dataclass(frozen=True)
class BucketPlan:
    """Everything that decides a token's bucket."""

    k: int
    n_tokens: int
    cuts: tuple[Cut, ...]

    @property
    def edges(self) -> npt.NDArray[np.float32]:
        """Ascending: edges[g - 1] is the largest difficulty of the g easiest buckets."""
        return np.array([cut.edge for cut in self.cuts], dtype=np.float32)

    @property
    def sizes(self) -> list[int]:
        """Tokens of bucket 1 (hardest) to K."""
        ranks = [0, *(cut.rank for cut in self.cuts), self.n_tokens]
        return [high - low for low, high in itertools.pairwise(ranks)][::-1]

    def assign(self, rows: TokenRows) -> npt.NDArray[np.uint8]:
        """Bucket of each token, 1 = hardest … K = easiest."""
        group_N = np.zeros(len(rows.values_N), dtype=np.int64)
        if self.cuts:
            below = pl.Series(self.edges).search_sorted(pl.Series(rows.values_N), side="left")
            assert isinstance(below, pl.Series)
            group_N += below.to_numpy()
        for edge, cuts in self._split_groups().items():
            tied = np.flatnonzero(rows.values_N == edge)
            if len(tied):
                hashes, row, position = rows.keys(tied)
                for cut in cuts:
                    group_N[tied] += _after(cut, hashes, rows.ids, row, position)
        bucket_N: npt.NDArray[np.uint8] = (self.k - group_N).astype(np.uint8)
        return bucket_N

    def _split_groups(self) -> dict[np.float32, list[Cut]]:
        """Cuts that fall inside a group of equal difficulties, by that difficulty."""
        groups: dict[np.float32, list[Cut]] = {}
        for cut in self.cuts:
            if cut.last is not None:
                groups.setdefault(cut.edge, []).append(cut)
        return groups

    def to_json(self) -> list[dict[str, Any]]:
        """The cuts as plain values, floats exact; with k and n_tokens they are the whole plan."""
        return [
            {"rank": cut.rank, "edge": float(cut.edge), "last": None if cut.last is None else list(cut.last)}
            for cut in self.cuts
        ]


def cut_ranks(n_tokens: int, k: int) -> list[int]:
    """Tokens below each of the K−1 cuts: ⌈g·n/K⌉. Raises: InputError without tokens."""
    if n_tokens == 0:
        raise InputError("no completion tokens to put into buckets; expected at least one scored example")
    return [-(-g * n_tokens // k) for g in range(1, k)]


def plan_buckets(
    column: ListColumn, rows: Rows, k: int, tick: Ticker | None = None
) -> tuple[BucketPlan, Counts]:
    """Where the K buckets of all tokens lie, and the column's `OrderStatistics.upper`.

    One or two passes over the column; two more over the rows if equal difficulties lie across a cut.

    Args:
        column: the difficulties as stored.
        rows: the same difficulties with their ids.

    Raises:
        InputError: no token.
        NonFiniteScoreError: a difficulty that is not finite and ≥ 0.
    """
    found = order_statistics(column, lambda n_tokens: [rank - 1 for rank in cut_ranks(n_tokens, k)], tick)
    last = _split_keys(rows, len(column.files), found, tick)
    cuts = tuple(
        Cut(rank + 1, value, last.get(rank + 1))
        for rank, value in zip(found.ranks, found.values, strict=True)
    )
    return BucketPlan(k, found.n_values, cuts), found.upper


@dataclass(frozen=True)
class _Selection:
    """The `n_below`-th smallest key (1-based) of the tokens whose difficulty is `edge` is wanted."""

    rank: int
    edge: np.float32
    n_below: int


def _split_keys(rows: Rows, n_shards: int, found: OrderStatistics, tick: Ticker | None) -> dict[int, Key]:
    """Cut rank → key of the last token below it, for the cuts inside a group of equal difficulties."""
    wanted = [
        _Selection(rank + 1, value, rank + 1 - int(less))
        for rank, value, less, equal in zip(
            found.ranks, found.values, found.n_less, found.n_equal, strict=True
        )
        if rank + 1 - less < equal
    ]
    if not wanted:
        return {}
    # 1. How the hashes of each group spread over 65,536 bins.
    groups = {edge: np.zeros(HALF, dtype=np.int64) for edge in {one.edge for one in wanted}}
    for shard in _ticking(rows, n_shards, tick):
        for edge, bins in groups.items():
            hashes, _, _ = shard.keys(np.flatnonzero(shard.values_N == edge))
            bins += np.bincount((hashes >> _HASH_SHIFT).astype(np.int64), minlength=HALF)
    # 2. The bin of each wanted key, and its number in there.
    places = []
    for one in wanted:
        running = np.cumsum(groups[one.edge])
        slot = int(np.searchsorted(running, one.n_below))
        places.append((one, slot, one.n_below - int(running[slot] - groups[one.edge][slot])))
    # 3. All keys of these bins, one in 65,536 of a group, sorted.
    keys: dict[tuple[np.float32, int], list[Key]] = {(one.edge, slot): [] for one, slot, _ in places}
    for shard in _ticking(rows, n_shards, tick):
        for edge in groups:
            slots = np.array(sorted(slot for value, slot in keys if value == edge))
            _collect(shard, edge, slots, keys)
    for members in keys.values():
        members.sort()
    return {one.rank: keys[one.edge, slot][number - 1] for one, slot, number in places}


def _collect(
    shard: TokenRows, edge: np.float32, slots: npt.NDArray[Any], keys: dict[tuple[np.float32, int], list[Key]]
) -> None:
    """Adds the keys of one shard that lie in the wanted hash bins."""
    hashes, row, position = shard.keys(np.flatnonzero(shard.values_N == edge))
    bins = (hashes >> _HASH_SHIFT).astype(np.int64)
    for i in np.flatnonzero(np.isin(bins, slots)):
        keys[edge, int(bins[i])].append((int(hashes[i]), shard.ids[row[i]], int(position[i])))


def _after(
    cut: Cut, hashes: npt.NDArray[np.uint64], ids: Sequence[str], row: Counts, position: Counts
) -> npt.NDArray[np.bool_]:
    """Which tokens equal to the cut's edge lie above the cut."""
    assert cut.last is not None
    limit = np.uint64(cut.last[0])
    above: npt.NDArray[np.bool_] = hashes > limit
    for i in np.flatnonzero(hashes == limit):
        above[i] = (ids[row[i]], int(position[i])) > cut.last[1:]
    return above


def _ticking(rows: Rows, n_shards: int, tick: Ticker | None) -> Iterator[TokenRows]:
    """A pass over all shards that tells `tick` how far it is."""
    for n_done, shard in enumerate(rows(), 1):
        yield shard
        if tick is not None:
            tick(n_done, n_shards)


def check_sizes(plan: BucketPlan, counted: Sequence[int]) -> None:
    """Raises CorruptShardError unless as many tokens got each bucket as the plan says (bucket 1 first)."""
    if list(counted) != plan.sizes:
        raise CorruptShardError(
            f"bucket sizes {list(counted)}, expected {plan.sizes}; the difficulties changed between the"
            " passes. Run the same command with --refresh buckets"
        )
