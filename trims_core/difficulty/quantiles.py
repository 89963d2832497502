"""Exact order statistics of a Parquet list column of float32, in constant memory.

The bit patterns of non-negative floats sort like the floats. Counting the 65,536 upper halves of the patterns
tells in which upper half each wanted rank lies; counting the full patterns inside those few halves gives the
values. All counts add up over files, so neither the number of files nor their order can change a bit of the
answer, and memory does not grow with the number of values.

Reading costs more than counting, so most files are read once: every 16th file is counted first, its ranks
tell which halves will be wanted, and the full patterns near those are counted along with the upper halves
of the others. Wherever the guess turns out wrong, and for the first files, a second query counts what is
missing. The guess decides the time, never the result.

Covered: non-negative finite values and −0.0, which counts as 0 (its own pattern would sort above +inf).
Not covered: anything else; NaN, negative and infinite values are refused with their place.

Source: own derivation (radix selection); checked against a sort in tests/difficulty/test_quantiles.py,
against DuckDB and Polars in bench/quantiles.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from trims_core.errors import CorruptShardError, InputError, NonFiniteScoreError, SchemaError

HALF: Final = 1 << 16
_INFINITY_HALF: Final = 0x7F80
_MINUS_ZERO_HALF: Final = 0x8000
_FILES_PER_QUERY: Final = 8
_PROBE_STRIDE: Final = 16
_MAX_GUESSED: Final = 64
"""Upper halves whose patterns are counted while reading: 512 KiB each."""
_ROWS_AT_ONCE: Final = 4096

Counts = npt.NDArray[np.int64]
Patterns = npt.NDArray[np.uint32]
Ticker = Callable[[int, int], None]
"""Told how many files of how many a pass has read."""


@dataclass(frozen=True)
class ListColumn:
    """A list<float32> column spread over Parquet files."""

    files: tuple[Path, ...]
    name: str


@dataclass(frozen=True)
class OrderStatistics:
    """The values at some ranks (0-based, ascending) and how many values lie below and at each."""

    n_values: int
    ranks: tuple[int, ...]
    values: npt.NDArray[np.float32]
    n_less: Counts
    n_equal: Counts
    upper: Counts
    """int64[65536]: how many values have each upper half of a pattern, ascending by value."""


def order_statistics(
    column: ListColumn, ranks_of: Callable[[int], Sequence[int]], tick: Ticker | None = None
) -> OrderStatistics:
    """The exact values at the ranks that `ranks_of` names for the number of values.

    Args:
        ranks_of: number of values → ranks wanted; also asked about a part of the files, for the guess.

    Raises:
        NonFiniteScoreError: NaN, a negative or an infinite value, with file, row and position.
        SchemaError: not a list<float32> column.
        InputError: a rank outside the number of values.
        CorruptShardError: the files changed between two passes.
    """
    probe = _Scan(column.files[::_PROBE_STRIDE], column.name)
    rest = _Scan(tuple(f for i, f in enumerate(column.files) if i % _PROBE_STRIDE), column.name)
    n_files = len(column.files)
    probe.read(_offset(tick, 0, n_files))
    rest.watch(_guess(probe.upper, ranks_of))
    rest.read(_offset(tick, len(probe.files), n_files))
    upper = probe.upper + rest.upper
    n_values = int(upper.sum())
    ranks = np.asarray(ranks_of(n_values), dtype=np.int64)
    if len(ranks) and not 0 <= ranks.min() <= ranks.max() < n_values:
        raise InputError(
            f"ranks {ranks.min()} to {ranks.max()} of {n_values} values; expected 0 ≤ rank < {n_values}"
        )
    halves_R = np.searchsorted(np.cumsum(upper), ranks, side="right")
    # Exact zeros were counted apart; the tables hold all other patterns.
    n_zero = probe.n_zero + rest.n_zero
    patterns, counts = _merged([probe.patterns(halves_R), rest.patterns(halves_R)])
    patterns, counts = np.insert(patterns, 0, 0), np.insert(counts, 0, n_zero)
    # Values below each pattern: those of smaller upper halves and the smaller patterns of its own half.
    running = np.cumsum(counts) - counts
    upper_of = patterns >> 16
    less = (np.cumsum(upper) - upper)[upper_of] + running - running[np.searchsorted(upper_of, upper_of)]
    index_R = np.searchsorted(less, ranks, side="right") - 1
    values_R = patterns[index_R].astype(np.uint32).view(np.float32)
    return OrderStatistics(n_values, tuple(ranks.tolist()), values_R, less[index_R], counts[index_R], upper)


def _guess(upper: Counts, ranks_of: Callable[[int], Sequence[int]]) -> Counts:
    """Upper halves near the wanted ranks of a part of the values; none if there would be too many."""
    n_values = int(upper.sum())
    ranks = np.asarray(ranks_of(n_values) if n_values else [], dtype=np.int64)
    found = np.unique(np.searchsorted(np.cumsum(upper), ranks, side="right"))
    reach = (_MAX_GUESSED // max(len(found), 1) - 1) // 2
    if not len(found) or reach < 0:
        return np.zeros(0, dtype=np.int64)
    near = np.unique(found[:, None] + np.arange(-reach, reach + 1)[None, :])
    return near[(near > 0) & (near < _INFINITY_HALF)]


@dataclass
class _Scan:
    """Counts over some files; the full patterns are counted in the watched upper halves only.

    Exact zeros are counted apart: they are many where a teacher is sure, and half 0 holds nothing else but
    values below 1e-40.
    """

    files: tuple[Path, ...]
    name: str
    upper: Counts = field(default_factory=lambda: np.zeros(HALF, dtype=np.int64))
    n_zero: int = 0
    _watched: Counts = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _table: Counts = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _slot: Counts = field(default_factory=lambda: np.full(HALF, -1, dtype=np.int64))

    def watch(self, halves: Counts) -> None:
        """Count full patterns in these upper halves (ascending, without 0) while reading."""
        self._watched = halves
        self._table = np.zeros(len(halves) * HALF, dtype=np.int64)
        self._slot[halves] = np.arange(len(halves))

    def read(self, tick: Ticker | None) -> None:
        """Reads all files once."""
        is_watched = self._slot >= 0
        n_done = 0
        for files in self._groups():
            before = self.upper[_INFINITY_HALF:].sum()
            for patterns in _batches(files, self.name):
                self._count(patterns, is_watched)
            if self.upper[_INFINITY_HALF:].sum() > before:
                for file in files:
                    _refuse_invalid(file, self.name)
            n_done += len(files)
            if tick is not None:
                tick(n_done, len(self.files))
        # Only −0.0 was left among the suspects.
        n_minus_zero = int(self.upper[_MINUS_ZERO_HALF])
        self.upper[_MINUS_ZERO_HALF] = 0
        self.upper[0] += n_minus_zero
        self.n_zero += n_minus_zero

    def _groups(self) -> list[tuple[Path, ...]]:
        """The files, a few at a time: what one query reads ahead is bounded by them."""
        starts = range(0, len(self.files), _FILES_PER_QUERY)
        return [self.files[start : start + _FILES_PER_QUERY] for start in starts]

    def _count(self, patterns: Patterns, is_watched: npt.NDArray[np.bool_]) -> None:
        upper = patterns.view("<u2")[1::2].astype(np.intp)
        self.upper += np.bincount(upper, minlength=HALF)
        self.n_zero += len(patterns) - int(np.count_nonzero(patterns))
        if len(self._watched):
            found = patterns[np.flatnonzero(is_watched.take(upper))].astype(np.int64)
            np.add.at(self._table, self._slot[found >> 16] * HALF + (found & (HALF - 1)), 1)

    def patterns(self, halves: Counts) -> tuple[Counts, Counts]:
        """Every pattern but zero that occurs in some upper halves, and how often; reads what was not watched.

        Raises:
            CorruptShardError: the files changed since they were read.
        """
        halves = np.unique(halves)
        slots = self._slot[halves]
        unknown, tables = halves[slots < 0], [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for half, slot in zip(halves[slots >= 0], slots[slots >= 0], strict=True):
            counts = self._table[slot * HALF : (slot + 1) * HALF]
            low = np.flatnonzero(counts)
            tables.append(((half << 16) | low, counts[low]))
        unknown = unknown[self.upper[unknown] > np.where(unknown == 0, self.n_zero, 0)]
        if len(unknown):
            tables += [_query_patterns(files, self.name, unknown) for files in self._groups()]
        patterns, counts = _merged(tables)
        n_expected = self.upper[halves].sum() - (self.n_zero if 0 in halves else 0)
        if counts.sum() != n_expected:
            raise CorruptShardError(
                f"{self.files[0].parent}: {counts.sum()} values between the edges, {n_expected} in the first"
                " pass; the files changed while they were read. Run the same command again"
            )
        return patterns, counts


def _batches(files: Sequence[Path], name: str) -> Iterator[Patterns]:
    """Bit patterns of the values, some thousand rows at a time, in any order; a null counts as NaN."""
    found = pq.read_schema(files[0]).field(name).type
    if not (pa.types.is_list(found) and found.value_type == pa.float32()):
        raise SchemaError(f"{files[0]}: column {name!r} is {found}, expected list<float32>")
    query = pl.scan_parquet(list(files), glob=False).select(_values(name))
    for batch in query.collect_batches(engine="streaming", maintain_order=False):
        values = batch[name]
        if values.null_count():
            values = values.fill_null(float("nan"))
        for chunk in values.get_chunks():
            yield chunk.to_numpy().view(np.uint32)


def _values(name: str) -> pl.Expr:
    """The elements of the lists, one per row; empty and missing lists give none."""
    return pl.col(name).explode(empty_as_null=False, keep_nulls=False)


def _query_patterns(files: Sequence[Path], name: str, halves: Counts) -> tuple[Counts, Counts]:
    """(patterns, counts) of the values but zero whose upper half is wanted."""
    pattern = pl.col("pattern")
    wanted = pl.Series(halves, dtype=pl.UInt16).implode()
    found = (
        pl.scan_parquet(list(files), glob=False)
        .select(_values(name).reinterpret(dtype=pl.UInt32).alias("pattern"))
        .filter((pattern != 0) & (pattern // HALF).cast(pl.UInt16).is_in(wanted))
        .group_by("pattern")
        .agg(pl.len().cast(pl.Int64).alias("n"))
        .collect(engine="streaming")
    )
    return found["pattern"].to_numpy().astype(np.int64), found["n"].to_numpy()


def _merged(tables: Sequence[tuple[Counts, Counts]]) -> tuple[Counts, Counts]:
    """Distinct patterns of several tables, ascending, with their counts added up."""
    patterns, inverse = np.unique(np.concatenate([table[0] for table in tables]), return_inverse=True)
    counts = np.zeros(len(patterns), dtype=np.int64)
    np.add.at(counts, inverse, np.concatenate([table[1] for table in tables]))
    return patterns, counts


def _refuse_invalid(file: Path, name: str) -> None:
    """Raises NonFiniteScoreError at the first value that is NaN, infinite or below zero, if there is one."""
    first_row = 0
    for batch in pq.ParquetFile(file).iter_batches(batch_size=_ROWS_AT_ONCE, columns=[name]):
        lists: Any = batch.column(0)
        values = lists.flatten().to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(~((values >= 0) & np.isfinite(values)))
        if len(bad):
            ends = np.cumsum(lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
            row = int(np.searchsorted(ends, bad[0], side="right"))
            position = int(bad[0] - (ends[row - 1] if row else 0))
            raise NonFiniteScoreError(
                f"{file}: column {name!r}, row {first_row + row}, position {position} is {values[bad[0]]};"
                " expected finite values ≥ 0. Score again with --refresh scores"
            )
        first_row += len(lists)


def _offset(tick: Ticker | None, n_before: int, n_files: int) -> Ticker | None:
    """A ticker for a part of the files."""
    if tick is None:
        return None
    return lambda n_done, _: tick(n_before + n_done, n_files)
