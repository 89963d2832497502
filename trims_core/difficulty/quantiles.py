"""Exact order statistics of a Parquet list column of float32, in constant memory.

The bit patterns of non-negative floats sort like the floats. A first pass counts the 65,536 upper halves of
the patterns; that tells in which upper half each wanted rank lies. A second pass, a streaming Polars query,
counts the full patterns inside those few halves only. Both counts add up over files, so neither the number of
files nor their order can change a bit of the answer, and memory does not grow with the number of values.

Covered: non-negative finite values and −0.0, which counts as 0 (its own pattern would sort above +inf).
Not covered: anything else; NaN, negative and infinite values are refused with their place.

Source: own derivation (radix selection); checked against a sort in tests/difficulty/test_quantiles.py,
against DuckDB and Polars in bench/quantiles.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
_MINUS_ZERO: Final = 0x80000000
_BATCH_ROWS: Final = 4096
_BUFFER_BYTES: Final = 1 << 20
_FILES_PER_QUERY: Final = 16

Counts = npt.NDArray[np.int64]
Ticker = Callable[[int, int], None]
"""Told how many files of how many a pass has read."""


@dataclass(frozen=True)
class ListColumn:
    """A list<float32> column spread over Parquet files."""

    files: tuple[Path, ...]
    name: str

    def batches(self, file: Path) -> Iterator[pa.ListArray]:
        """The column of one file, a few thousand rows at a time. Raises: SchemaError."""
        with pq.ParquetFile(file, buffer_size=_BUFFER_BYTES) as parquet:
            found = parquet.schema_arrow.field(self.name).type
            if not (pa.types.is_list(found) and found.value_type == pa.float32()):
                raise SchemaError(f"{file}: column {self.name!r} is {found}, expected list<float32>")
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=[self.name]):
                yield batch.column(0)


@dataclass(frozen=True)
class OrderStatistics:
    """The values at some ranks (0-based, ascending) and how many values lie below and at each."""

    ranks: tuple[int, ...]
    values: npt.NDArray[np.float32]
    n_less: Counts
    n_equal: Counts


def upper_counts(column: ListColumn, tick: Ticker | None = None) -> Counts:
    """How many values have each upper half of a float32 pattern: int64[65536], ascending by value.

    Counts of disjoint sets of files add up to the count of their union.

    Raises:
        NonFiniteScoreError: NaN, a negative or an infinite value, with file, row and position.
        SchemaError: not a list<float32> column.
    """
    counts = np.zeros(HALF, dtype=np.int64)
    workers = max(1, min(len(column.files), len(os.sched_getaffinity(0))))
    with ThreadPoolExecutor(workers) as pool:
        for n_done, part in enumerate(pool.map(lambda file: _upper_counts_of(column, file), column.files), 1):
            counts += part
            if tick is not None:
                tick(n_done, len(column.files))
    return counts


def order_statistics(
    column: ListColumn, ranks: Sequence[int], upper: Counts | None = None, tick: Ticker | None = None
) -> OrderStatistics:
    """The exact values at `ranks` of all values of the column.

    Args:
        upper: what `upper_counts` gave for the same files, if known.

    Raises:
        InputError: a rank outside the number of values.
        CorruptShardError: the files changed between the two passes.
    """
    upper = upper_counts(column, tick) if upper is None else upper
    n_values = int(upper.sum())
    bad = [rank for rank in ranks if not 0 <= rank < n_values]
    if bad:
        raise InputError(f"rank {bad[0]} of {n_values} values; expected 0 ≤ rank < {n_values}")
    if not len(ranks):
        empty = np.zeros(0, dtype=np.int64)
        return OrderStatistics((), np.zeros(0, dtype=np.float32), empty, empty)
    wanted_R = np.asarray(ranks, dtype=np.int64)
    before = np.cumsum(upper) - upper
    halves_R = np.searchsorted(np.cumsum(upper), wanted_R, side="right")
    patterns, counts = _pattern_counts(column, np.unique(halves_R), upper, tick)
    # Values below each pattern: those of smaller upper halves and the smaller patterns of its own half.
    upper_of = patterns >> 16
    running = np.cumsum(counts) - counts
    first_of_half = np.searchsorted(upper_of, upper_of, side="left")
    less = before[upper_of] + running - running[first_of_half]
    index_R = np.searchsorted(less, wanted_R, side="right") - 1
    values_R = patterns[index_R].astype(np.uint32).view(np.float32)
    return OrderStatistics(tuple(int(rank) for rank in ranks), values_R, less[index_R], counts[index_R])


def _upper_counts_of(column: ListColumn, file: Path) -> Counts:
    """`upper_counts` of one file, −0.0 counted as 0."""
    counts = np.zeros(HALF, dtype=np.int64)
    for lists in column.batches(file):
        counts += np.bincount(_halves(lists)[1::2], minlength=HALF)
    if counts[_INFINITY_HALF:].any():
        _refuse_invalid(column, file)
        # Only −0.0 was left among the suspects.
        counts[0] += counts[_MINUS_ZERO_HALF]
        counts[_MINUS_ZERO_HALF] = 0
    return counts


def _halves(lists: pa.ListArray) -> npt.NDArray[np.uint16]:
    """Patterns of a batch's values as 16-bit halves, low one first (little-endian); a null element is NaN."""
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, dtype="<f4").view("<u2")


def _refuse_invalid(column: ListColumn, file: Path) -> None:
    """Raises NonFiniteScoreError at the first value that is NaN, infinite or below zero, if there is one."""
    first_row = 0
    for lists in column.batches(file):
        values = lists.flatten().to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(~((values >= 0) & np.isfinite(values)))
        if len(bad):
            ends = np.cumsum(lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
            row = int(np.searchsorted(ends, bad[0], side="right"))
            position = int(bad[0] - (ends[row - 1] if row else 0))
            raise NonFiniteScoreError(
                f"{file}: column {column.name!r}, row {first_row + row}, position {position} is"
                f" {values[bad[0]]}; expected finite values ≥ 0. Score again with --refresh scores"
            )
        first_row += len(lists)


def _pattern_counts(
    column: ListColumn, halves: npt.NDArray[Any], upper: Counts, tick: Ticker | None
) -> tuple[Counts, Counts]:
    """Every full pattern that occurs in the given upper halves, ascending, and how often.

    At most 65,536 patterns per wanted half, however many values there are.
    """
    table = np.zeros((len(halves), HALF), dtype=np.int64)
    for start in range(0, len(column.files), _FILES_PER_QUERY):
        files = column.files[start : start + _FILES_PER_QUERY]
        seen = _query_patterns(files, column.name, halves)
        pattern, n = seen["pattern"].to_numpy().astype(np.int64), seen["n"].to_numpy()
        minus_zero = pattern == _MINUS_ZERO
        if minus_zero.any():
            table[0, 0] += n[minus_zero][0]
            pattern, n = pattern[~minus_zero], n[~minus_zero]
        # Patterns are distinct within one query, so plain indexing adds each of them.
        table[np.searchsorted(halves, pattern >> 16), pattern & (HALF - 1)] += n
        if tick is not None:
            tick(start + len(files), len(column.files))
    slot, low = np.nonzero(table)
    patterns, found = (halves[slot] << 16) | low, table[slot, low]
    if found.sum() != upper[halves].sum():
        raise CorruptShardError(
            f"{column.files[0].parent}: {found.sum()} values between the edges, {upper[halves].sum()} in the"
            " first pass; the files changed while they were read. Run the same command again"
        )
    return patterns, found


def _query_patterns(files: Sequence[Path], name: str, halves: npt.NDArray[Any]) -> pl.DataFrame:
    """(pattern, n) of the values whose upper half is wanted; a Polars streaming query."""
    wanted = [int(half) for half in halves]
    if 0 in wanted:
        wanted.append(_MINUS_ZERO_HALF)
    pattern = pl.col(name).explode(empty_as_null=False, keep_nulls=False).reinterpret(dtype=pl.UInt32)
    return (
        pl.scan_parquet(list(files), glob=False)
        .select(pattern.alias("pattern"))
        .filter(
            (pl.col("pattern") // HALF).cast(pl.UInt16).is_in(pl.Series(wanted, dtype=pl.UInt16).implode())
        )
        .group_by("pattern")
        .agg(pl.len().cast(pl.Int64).alias("n"))
        .collect(engine="streaming")
    )
