"""How much the difficulties of the same student tokens moved between two bucketings.

Examples are joined by id, tokens by their place in the completion. Covered: two teachers, or two settings,
over the same student tokenizer. Not covered: another student tokenizer; examples whose tokens differ in
number or kind are left out and counted (`n_examples_incomparable`).

Both bucketings are read once, shard by shard, beside the ids of the new one (24 bytes per example); what the
rank correlation sorts lies on disk meanwhile, 20 bytes per token in the system's temporary folder (TMPDIR).
Equal shards or not, equal order or not: that decides how often a new shard is read, never the result.

Shapes: R joined examples of two shards, N their student completion tokens.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trims_core.difficulty.summary import Summary, merge, summarise
from trims_core.errors import SchemaError
from trims_core.ranks import Floats, spearman
from trims_core.schema import BUCKETS, read_table

_MAX_K: Final = 255
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True)
class Drift:
    """What changed between two bucketings; `spearman` is None where one side is constant or N < 2."""

    n_examples: int
    n_examples_only_old: int
    n_examples_only_new: int
    n_examples_incomparable: int
    n_tokens: int
    spearman: float | None
    share_changed_bucket: float
    mean_old_nats: float
    mean_new_nats: float
    k_old: int
    k_new: int

    def rows(self) -> list[dict[str, str]]:
        """The same as a table of two columns, for people."""
        return [{"measure": name, "value": _text(value)} for name, value in asdict(self).items()]


def _text(value: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def bucket_drift(old: Sequence[Path], new: Sequence[Path]) -> Drift:
    """The drift between two sets of bucket shards.

    Raises:
        SchemaError: a shard is not a bucket table, or no example is in both.
    """
    if not old or not new:
        raise SchemaError("drift: a bucketing without shards; expected at least one bucket table")
    join = _Join(old, new)
    with tempfile.TemporaryDirectory(prefix="trims-drift-") as scratch:
        correlation = spearman(join.difficulties(), Path(scratch))
    n_tokens = int(join.transitions.sum())
    if not join.n_kept:
        raise SchemaError(
            f"drift: none of {join.n_old} old and {len(join.rows)} new examples has the same id and"
            " student tokens in both; expected two bucketings of one corpus and student"
        )
    return Drift(
        n_examples=join.n_kept,
        n_examples_only_old=join.n_old - join.n_joined,
        n_examples_only_new=len(join.rows) - join.n_joined,
        n_examples_incomparable=join.n_joined - join.n_kept,
        n_tokens=n_tokens,
        spearman=correlation,
        share_changed_bucket=(n_tokens - int(np.trace(join.transitions))) / n_tokens,
        mean_old_nats=join.before.mean,
        mean_new_nats=join.after.mean,
        k_old=int(np.flatnonzero(join.transitions.sum(1))[-1]),
        k_new=int(np.flatnonzero(join.transitions.sum(0))[-1]),
    )


class _Rows:
    """Where each example of some shards is, by a digest of its id."""

    def __init__(self, shards: Sequence[Path]) -> None:
        found = [_id_digests(pq.read_table(path, columns=["id"])["id"]) for path in shards]
        digests = np.concatenate(found)
        order = np.argsort(digests, kind="stable")
        sizes = [len(digests) for digests in found]
        self._digests = digests[order]
        self._shard = np.repeat(np.arange(len(shards), dtype=np.int32), sizes)[order]
        self._row = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])[order]

    def __len__(self) -> int:
        return len(self._digests)

    def find(self, digests: npt.NDArray[np.bytes_]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Shard and row of each id; shard −1 where there is none."""
        place = np.minimum(np.searchsorted(self._digests, digests), max(0, len(self) - 1))
        if not len(self):
            return np.full(len(digests), -1, np.int32), np.zeros(len(digests), np.int32)
        known = self._digests[place] == digests
        return np.where(known, self._shard[place], np.int32(-1)), self._row[place]


@dataclass
class _Join:
    """One pass over two bucketings."""

    old: Sequence[Path]
    new: Sequence[Path]
    rows: _Rows = field(init=False)
    n_old: int = 0
    n_joined: int = 0
    n_kept: int = 0
    transitions: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((_MAX_K + 1, _MAX_K + 1), np.int64)
    )
    """Tokens by their old and their new bucket."""
    before: Summary = field(init=False)
    after: Summary = field(init=False)

    def __post_init__(self) -> None:
        self.rows = _Rows(self.new)
        nothing = np.zeros(0)
        self.before = self.after = summarise(nothing.astype(np.float32), nothing.astype(np.uint8), _MAX_K)

    def difficulties(self) -> Iterator[tuple[Floats, Floats]]:
        """Old and new difficulties of the tokens that can be compared, and everything counted along."""
        read_new = lru_cache(maxsize=2)(lambda number: read_table(self.new[number], BUCKETS))
        for path in self.old:
            table = read_table(path, BUCKETS)
            shard_R, row_R = self.rows.find(_id_digests(table["id"]))
            self.n_old += table.num_rows
            for number in np.unique(shard_R[shard_R >= 0]).tolist():
                chosen = np.flatnonzero(shard_R == number)
                self.n_joined += len(chosen)
                old, new = _comparable(table.take(chosen), read_new(number).take(row_R[chosen]))
                if old.num_rows:
                    yield self._count(old, new)

    def _count(self, old: pa.Table, new: pa.Table) -> tuple[Floats, Floats]:
        self.n_kept += old.num_rows
        old_N, new_N = (_flat(table["difficulty_nats"]) for table in (old, new))
        bucket_old_N, bucket_new_N = (_flat(table["bucket"]) for table in (old, new))
        cell_N = bucket_old_N.astype(np.int64) * (_MAX_K + 1) + bucket_new_N
        self.transitions += np.bincount(cell_N, minlength=self.transitions.size).reshape(
            self.transitions.shape
        )
        self.before = merge([self.before, summarise(old_N, bucket_old_N, _MAX_K)])
        self.after = merge([self.after, summarise(new_N, bucket_new_N, _MAX_K)])
        return old_N, new_N


def _comparable(old: pa.Table, new: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Of rows that belong together, those with the same student tokens."""
    length_R, other_R = (np.asarray(pc.list_value_length(table["input_ids"])) for table in (old, new))
    same_R = (length_R == other_R) & (np.asarray(old["prompt_length"]) == np.asarray(new["prompt_length"]))
    old, new = (table.filter(pa.array(same_R)) for table in (old, new))
    row_N = np.repeat(np.arange(old.num_rows), length_R[same_R])
    differing = row_N[_flat(old["input_ids"]) != _flat(new["input_ids"])]
    if not len(differing):
        return old, new
    keep = np.ones(old.num_rows, np.bool_)
    keep[differing] = False
    return old.filter(pa.array(keep)), new.filter(pa.array(keep))


def _id_digests(ids: Any) -> npt.NDArray[np.bytes_]:
    digests = [hashlib.blake2b(one.encode(), digest_size=_DIGEST_BYTES).digest() for one in ids.to_pylist()]
    return np.frombuffer(b"".join(digests), f"S{_DIGEST_BYTES}")


def _flat(lists: Any) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values
