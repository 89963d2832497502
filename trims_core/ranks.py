"""Spearman's rank correlation of any number of pairs: exact, in constant memory.

1. The pairs go to files by the upper bits of x. In each file the patterns that occur are counted: with the
   number of all smaller values that gives every x its rank, equal values their mean rank.
2. The ranks go to files by the upper bits of y, which is ranked in the same way, and the products add up.

Ranks are kept doubled and centred, so they are whole numbers, and so are all sums: the only rounding is that
of the result. On disk: 20 bytes per pair, in `scratch`.

Shapes: N pairs of a chunk.
Source: Pearson correlation of mean ranks; checked against a loop over pairs in tests/test_ranks.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Records = npt.NDArray[Any]

_LOWER_BITS: Final = 18
"""So a file has at most 262,144 keys: 3 MiB of counts."""
_ROWS_AT_ONCE: Final = 1 << 16
_SIGN: Final = np.uint32(1 << 31)
_BY_X: Final = np.dtype([("key", "<u4"), ("y", "<u4")])
_BY_Y: Final = np.dtype([("key", "<u4"), ("rank_x", "<i8")])


def spearman(pairs: Iterable[tuple[Floats, Floats]], scratch: Path) -> float | None:
    """Rank correlation in [-1, 1], ties at their mean rank; None if undefined (a constant side, N < 2).

    Args:
        pairs: chunks (x_N, y_N) of finite float32; a few 100,000 at once.
        scratch: an empty folder.
    """
    by_x, by_y = _Sorted(scratch / "x", _BY_X), _Sorted(scratch / "y", _BY_Y)
    for x_N, y_N in pairs:
        by_x.add(_pattern(x_N), _pattern(y_N))
    sum_xx = sum_yy = sum_xy = 0
    for records, rank_N in by_x.ranked():
        sum_xx += _dot(rank_N, rank_N)
        by_y.add(records["y"], rank_N)
    for records, rank_N in by_y.ranked():
        sum_yy += _dot(rank_N, rank_N)
        sum_xy += _dot(records["rank_x"], rank_N)
    if not (sum_xx and sum_yy):
        return None
    return (sum_xy << 64) / math.isqrt(sum_xx * sum_yy << 128)


def rank_correlation(x_N: npt.ArrayLike, y_N: npt.ArrayLike) -> float | None:
    """Rank correlation of a few pairs of finite numbers, in memory; ties and None as in `spearman`."""
    ranks_N, others_N = _mean_ranks(x_N), _mean_ranks(y_N)
    if not len(ranks_N):
        return None
    ranks_N, others_N = ranks_N - ranks_N.mean(), others_N - others_N.mean()
    size = math.sqrt(float(ranks_N @ ranks_N) * float(others_N @ others_N))
    return float(ranks_N @ others_N) / size if size else None


def _mean_ranks(values_N: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Each value's rank from 1, equal ones at the mean of theirs."""
    _, place_N, counts = np.unique(np.asarray(values_N), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place_N]


class _Sorted:
    """Records in files by the upper bits of their key."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        folder.mkdir()
        self._folder = folder
        self._dtype = dtype
        self._uppers: set[int] = set()
        self._n_records = 0

    def add(self, key_N: npt.NDArray[np.uint32], other_N: npt.NDArray[Any]) -> None:
        """Write some records: the key, and what goes with it."""
        upper_N = (key_N >> np.uint32(_LOWER_BITS)).astype(np.uint16)
        order_N = np.argsort(upper_N, kind="stable")  # of 16 bits: a radix sort
        records = np.empty(len(key_N), self._dtype)
        for name, values_N in zip(self._dtype.names or (), (key_N, other_N), strict=True):
            records[name] = values_N[order_N]
        uppers, starts = np.unique(upper_N[order_N], return_index=True)
        for upper, some in zip(uppers, np.split(records, starts[1:]), strict=True):
            with (self._folder / f"{upper}").open("ab") as file:
                file.write(some.tobytes())
        self._uppers.update(uppers.tolist())
        self._n_records += len(records)

    def ranked(self) -> Iterator[tuple[Records, Ints]]:
        """All records in chunks, and their doubled, centred ranks: 2·rank − (n + 1). Removes the files."""
        n_smaller = 0
        for upper in sorted(self._uppers):
            path = self._folder / f"{upper}"
            keys, counts = self._counted(path)
            # equal values hold the ranks s + 1 … s + count, of which the mean is s + (count + 1) / 2
            ranks = 2 * (n_smaller + np.cumsum(counts) - counts) + counts - self._n_records
            for records in self._chunks(path):
                yield records, ranks[np.searchsorted(keys, records["key"])]
            n_smaller += int(counts.sum())
            path.unlink()

    def _counted(self, path: Path) -> tuple[npt.NDArray[np.uint32], Ints]:
        """The keys of a file, each once and ascending, and how often each occurs."""
        keys, counts = np.zeros(0, np.uint32), np.zeros(0, np.int64)
        for records in self._chunks(path):
            new, n_new = np.unique(records["key"], return_counts=True)
            keys, place = np.unique(np.concatenate([keys, new]), return_inverse=True)
            before, counts = np.concatenate([counts, n_new]), np.zeros(len(keys), np.int64)
            np.add.at(counts, place, before)
        return keys, counts

    def _chunks(self, path: Path) -> Iterator[Records]:
        with path.open("rb") as file:
            while data := file.read(_ROWS_AT_ONCE * self._dtype.itemsize):
                yield np.frombuffer(data, self._dtype)


def _pattern(values_N: Floats) -> npt.NDArray[np.uint32]:
    """Bit patterns that sort like the values; −0.0 is 0.0."""
    bits_N = (values_N + np.float32(0.0)).view(np.uint32)
    return np.where(bits_N & _SIGN, ~bits_N, bits_N | _SIGN)


def _dot(a_N: Ints, b_N: Ints) -> int:
    """Exact sum of products of numbers below 2^40: no part of it leaves 64 bits."""
    low = np.int64((1 << 20) - 1)
    high_a, low_a, high_b, low_b = a_N >> 20, a_N & low, b_N >> 20, b_N & low
    mixed = int(high_a @ low_b) + int(low_a @ high_b)
    return (int(high_a @ high_b) << 40) + (mixed << 20) + int(low_a @ low_b)
