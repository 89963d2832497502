"""Where examples come from: buckets, tokens without a teacher, or the student's own answers.

Each gives blocks of rows, a shard at a time, with one number for every token of a completion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trims_core.errors import SchemaError
from trims_core.schema import BUCKETS, TOKENS, read_table
from trims_core.training.plan import Lengths
from trims_core.training.rollout_rows import RolloutRow, RolloutRows
from trims_core.training.spec import TrainSpec

Array = npt.NDArray[Any]
_ROWS_PER_BLOCK: Final = 1024


@dataclass(frozen=True)
class Block:
    """Some rows: row r has the tokens from token_offsets[r] to token_offsets[r + 1].

    values: one number per token of a completion, row by row. has_end: whether the last token is an end.
    references: by row, the prompts that a frozen reference reads; None: it reads the student's.
    """

    ids: Any
    tokens: npt.NDArray[np.int32]
    token_offsets: Lengths
    prompt_lengths: Lengths
    values: Array
    has_end: npt.NDArray[np.bool_]
    references: Sequence[npt.NDArray[np.int32]] | None = None

    @property
    def reference_lengths(self) -> Lengths:
        """Tokens of the references, 0 without."""
        if self.references is None:
            return np.zeros(len(self.prompt_lengths), np.int64)
        return np.array([len(reference) for reference in self.references], np.int64)

    @property
    def value_offsets(self) -> Lengths:
        """Where the rows' values begin, and the last one's end."""
        lengths = np.diff(self.token_offsets) - self.prompt_lengths
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


class Source(Protocol):
    """Rows to train on."""

    column: ClassVar[str]
    """What a token's number is: `buckets` (uint8, 1…n_buckets) or `reveal` (int16, a step; -1: never)."""

    @property
    def n_buckets(self) -> int:
        """1 where tokens have no buckets."""

    def files(self) -> Sequence[Path]:
        """All that is read."""

    def blocks(self) -> Iterator[Block]:
        """All rows."""

    def named_lengths(self) -> Iterator[tuple[str, int]]:
        """Ids and numbers of completion tokens of all rows."""

    def left_out(self) -> dict[str, int]:
        """Counts of rows beside the examples, by name; known once all blocks were read."""


def source_of(spec: TrainSpec) -> Source:
    """What a run is trained on."""
    if spec.rollouts:
        rows = RolloutRows(
            spec.shards,
            spec.rollouts,
            spec.rollout_grades,
            spec.answers,
            whole=spec.variant.needs == "rounds",
            references=spec.references,
            shown=spec.shown_prompts,
        )
        return Rollouts(rows)
    return BucketShards(spec.shards, spec.n_buckets) if spec.n_buckets else TokenShards(spec.shards)


@dataclass(frozen=True)
class BucketShards:
    """Corpus answers with the teacher's buckets."""

    shards: Sequence[Path]
    n_buckets: int
    column: ClassVar[str] = "buckets"

    def files(self) -> Sequence[Path]:
        """The shards."""
        return self.shards

    def blocks(self) -> Iterator[Block]:
        """Raises: SchemaError where a row's buckets do not fit its tokens or exceed K."""
        for path in self.shards:
            table = read_table(path, BUCKETS)
            tokens, token_offsets = _flat(table["input_ids"])
            buckets, bucket_offsets = _flat(table["bucket"])
            prompts = np.asarray(table["prompt_length"]).astype(np.int64)
            ids = table["id"].combine_chunks()
            self._check(path, ids, np.diff(token_offsets) - prompts, buckets, bucket_offsets)
            yield Block(ids, tokens, token_offsets, prompts, buckets, np.ones(len(ids), np.bool_))

    def named_lengths(self) -> Iterator[tuple[str, int]]:
        """From the columns alone that it takes."""
        for path in self.shards:
            table = pq.read_table(path, columns=["id", "bucket"])
            lengths = pc.list_value_length(table["bucket"]).to_pylist()
            yield from zip(table["id"].to_pylist(), lengths, strict=True)

    def left_out(self) -> dict[str, int]:
        """Nothing."""
        return {}

    def _check(self, path: Path, ids: Any, n_completion_R: Lengths, buckets: Array, offsets: Lengths) -> None:
        n_bucket_R = np.diff(offsets)
        for row in np.flatnonzero(n_bucket_R != n_completion_R)[:1].tolist():
            raise SchemaError(
                f"{path}: id {ids[row].as_py()!r} has {n_bucket_R[row]} buckets for"
                f" {n_completion_R[row]} completion tokens; redo it with --refresh buckets"
            )
        for place in np.flatnonzero((buckets < 1) | (buckets > self.n_buckets))[:1].tolist():
            row = int(np.searchsorted(offsets, place, side="right")) - 1
            own = buckets[offsets[row] : offsets[row + 1]]
            raise SchemaError(
                f"{path}: id {ids[row].as_py()!r} has buckets {own.min()}…{own.max()}, expected"
                f" 1…{self.n_buckets}; redo it with --refresh buckets"
            )


@dataclass(frozen=True)
class TokenShards:
    """Corpus answers without a teacher: one bucket for all."""

    shards: Sequence[Path]
    n_buckets: int = 1
    column: ClassVar[str] = "buckets"

    def files(self) -> Sequence[Path]:
        """The shards."""
        return self.shards

    def blocks(self) -> Iterator[Block]:
        """One for each shard."""
        for path in self.shards:
            table = read_table(path, TOKENS)
            tokens, offsets = _flat(table["input_ids"])
            prompts = np.asarray(table["prompt_length"]).astype(np.int64)
            n_values = len(tokens) - int(prompts.sum())
            ids = table["id"].combine_chunks()
            has_end = np.ones(len(ids), np.bool_)
            yield Block(ids, tokens, offsets, prompts, np.ones(n_values, np.uint8), has_end)

    def named_lengths(self) -> Iterator[tuple[str, int]]:
        """From the blocks."""
        return _named_lengths(self.blocks())

    def left_out(self) -> dict[str, int]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class Rollouts:
    """The student's own answers, joined with their prompts and grades."""

    rows: RolloutRows
    n_buckets: int = 1
    column: ClassVar[str] = "reveal"

    def files(self) -> Sequence[Path]:
        """Of all artifacts."""
        rows = self.rows
        return (*rows.tokens, *rows.rollouts, *rows.grades, *rows.references, *rows.shown)

    def blocks(self) -> Iterator[Block]:
        """Raises: like `RolloutRows`."""
        waiting: list[RolloutRow] = []
        for row in self.rows:
            waiting.append(row)
            if len(waiting) == _ROWS_PER_BLOCK:
                yield _block(waiting)
                waiting = []
        if waiting:
            yield _block(waiting)

    def named_lengths(self) -> Iterator[tuple[str, int]]:
        """From the blocks."""
        return _named_lengths(self.blocks())

    def left_out(self) -> dict[str, int]:
        """Wrong and ungraded ones, and of those that are there the ones that never ended."""
        counts = self.rows.counts
        found = {
            "n_rollouts": counts.n_rollouts,
            "n_wrong": counts.n_wrong,
            "n_ungraded": counts.n_ungraded,
            "n_unfinished": counts.n_unfinished,
        }
        privileged = self.rows.references or self.rows.shown
        return found | ({"n_without_reference": counts.n_without_reference} if privileged else {})


def _block(rows: Sequence[RolloutRow]) -> Block:
    lengths = np.array([len(row.input_ids) for row in rows], np.int64)
    references = [row.reference for row in rows if row.reference is not None]
    return Block(
        ids=pa.array([row.id for row in rows]),
        tokens=np.concatenate([row.input_ids for row in rows]),
        token_offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        prompt_lengths=np.array([row.prompt_length for row in rows], np.int64),
        values=np.concatenate([row.reveal_step for row in rows]),
        has_end=np.array([row.finished for row in rows], np.bool_),
        references=references or None,
    )


def _named_lengths(blocks: Iterator[Block]) -> Iterator[tuple[str, int]]:
    for block in blocks:
        yield from zip(block.ids.to_pylist(), np.diff(block.value_offsets).tolist(), strict=True)


def _flat(lists: Any) -> tuple[Array, Lengths]:
    """Values and offsets of a list column."""
    array = lists.combine_chunks()
    lengths = np.asarray(pc.list_value_length(array)).astype(np.int64)
    return np.asarray(array.flatten()), np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
