"""The order in which training shows an example's tokens: their buckets, 1 shown first.

descending, two_sided: as they are (hard tokens are context first); ascending: K+1−b; random: equal-mass
buckets of a hash of (seed, id, position) over all tokens given (sizes differ by at most 1), so that a token
keeps its place through the epochs. Controls, which keep every example's own buckets and detach them from its
tokens: shifted moves them by SHIFT positions round the example's end (by half its length where that would
move nothing); permuted sorts them by that hash.

Only `random` looks at more than one example: where its buckets end is found beforehand, exactly, by counting
the hashes' upper 16 bits; then the hashes that share those bits with a cut, one in 65,536, are sorted. Memory
does not grow with anything else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from trims_core.variants import Order

SHIFT: Final = 10
"""Tokens by which order `shifted` moves bucket ids: far enough to leave the word they belong to."""

Buckets = npt.NDArray[np.uint8]
Token = tuple[int, str, int]
"""(hash, id, position): the random order of tokens."""
NamedLengths = Callable[[], Iterable[tuple[str, int]]]
"""Starts a pass over all examples: id and number of completion tokens."""

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_UPPER_SHIFT: Final = np.uint64(48)
_N_UPPER: Final = 1 << 16


@dataclass(frozen=True)
class RandomCuts:
    """Where the buckets of a random order end: the first token of every bucket but the first."""

    firsts: tuple[Token, ...] = ()

    def buckets(self, seed: int, example_id: str, n_positions: int) -> Buckets:
        """The buckets of one example's tokens."""
        hashes = position_hashes(seed, example_id, n_positions)
        limits = np.array([first[0] for first in self.firsts], np.uint64)
        group_N = np.searchsorted(limits, hashes, side="right")
        for i in np.flatnonzero(np.isin(hashes, limits)):
            group_N[i] = sum(first <= (int(hashes[i]), example_id, int(i)) for first in self.firsts)
        return (group_N + 1).astype(np.uint8)


def random_cuts(examples: NamedLengths, n_buckets: int, seed: int) -> RandomCuts:
    """The cuts of the random order of all tokens: token number r (from 0) belongs to bucket r·K div n + 1."""
    # 1. the cuts' ranks, and the upper halves in which they lie
    counts = np.zeros(_N_UPPER, np.int64)
    for name, n_positions in examples():
        np.add.at(counts, (position_hashes(seed, name, n_positions) >> _UPPER_SHIFT).astype(np.int64), 1)
    n_tokens, running = int(counts.sum()), np.cumsum(counts)
    ranks = [-(-g * n_tokens // n_buckets) for g in range(1, n_buckets)]
    ranks = [rank for rank in ranks if rank < n_tokens]
    uppers = np.searchsorted(running, ranks, side="right").tolist()
    # 2. all tokens there, in their order
    members: dict[int, list[Token]] = {upper: [] for upper in uppers}
    wanted = np.isin(np.arange(_N_UPPER), uppers)
    for name, n_positions in examples() if ranks else ():
        hashes = position_hashes(seed, name, n_positions)
        for i in np.flatnonzero(wanted[(hashes >> _UPPER_SHIFT).astype(np.int64)]).tolist():
            members[int(hashes[i]) >> int(_UPPER_SHIFT)].append((int(hashes[i]), name, i))
    for tokens in members.values():
        tokens.sort()
    below = running - counts
    return RandomCuts(
        tuple(members[upper][rank - int(below[upper])] for rank, upper in zip(ranks, uppers, strict=True))
    )


def ordered(
    bucket_N: Buckets, example_id: str, n_buckets: int, order: Order, seed: int, cuts: RandomCuts
) -> Buckets:
    """One example's buckets in the order of training. `cuts` are looked at for order random alone."""
    if order == "ascending":
        return (n_buckets + 1 - bucket_N.astype(np.int64)).astype(np.uint8)
    if order == "shifted":
        return np.roll(bucket_N, SHIFT % max(len(bucket_N), 1) or len(bucket_N) // 2)
    if order == "permuted":
        return bucket_N[np.argsort(position_hashes(seed, example_id, len(bucket_N)))]
    if order == "random":
        return cuts.buckets(seed, example_id, len(bucket_N))
    return bucket_N


def position_hashes(seed: int, example_id: str, n_positions: int) -> npt.NDArray[np.uint64]:
    """64-bit hashes of (seed, id, position), position 0…n−1 (splitmix64's finaliser over a keyed start)."""
    start = hashlib.blake2b(f"order\0{seed}\0{example_id}".encode(), digest_size=8).digest()
    with np.errstate(over="ignore"):
        x = np.frombuffer(start, np.uint64)[0] + np.arange(1, n_positions + 1, dtype=np.uint64) * _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)), np.uint64)
