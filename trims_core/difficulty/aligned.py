"""A shard of scores with the student's tokens and their difficulty, before any bucket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from trims_core.alignment import align_rows
from trims_core.difficulty.buckets import TokenRows
from trims_core.difficulty.student_rows import ROWS_AT_ONCE, Reader, ReadShard, token_columns
from trims_core.errors import AlignmentError, ConfigError, CorruptShardError, NonFiniteScoreError
from trims_core.rendering import RenderedRows, Renderer
from trims_core.schema import ALIGNED, CORPUS, SCORES, read_table

logger = logging.getLogger(__name__)

METRIC_COLUMNS: Final = {"nll": "nll_nats", "entropy": "entropy_nats"}
_SHOWN: Final = 5


@dataclass(frozen=True)
class _Scores:
    """Some rows of a scores shard, flat: tokens of row r at offset_R1[r] : offset_R1[r + 1]."""

    ids: list[str]
    offset_R1: npt.NDArray[np.int64]
    byte_end_T: npt.NDArray[np.int32]
    value_T: npt.NDArray[np.float64]


def align_shard(
    scores_file: Path, corpus_file: Path, metric: str, renderer: Renderer, tick: Callable[[int], None]
) -> ReadShard:
    """The aligned rows of one scores shard, in its order; joined with the corpus by id.

    Args:
        tick: told the number of finished rows every few hundred.

    Raises:
        ConfigError: the scores do not have the metric.
        CorruptShardError: an id that the corpus shard does not have, or columns of unequal length.
        NonFiniteScoreError: a score that is not finite and ≥ 0.
        AlignmentError: scores that do not cover the completion's bytes.
    """
    scores = read_table(scores_file, SCORES)
    corpus = read_table(corpus_file, CORPUS)
    row_of = {name: row for row, name in enumerate(corpus["id"].to_pylist())}
    parts, reader = [], Reader(renderer)
    for start in range(0, scores.num_rows, ROWS_AT_ONCE):
        part = scores.slice(start, ROWS_AT_ONCE)
        strange = [name for name in part["id"].to_pylist() if name not in row_of]
        if strange:
            raise CorruptShardError(
                f"{scores_file}: ids {', '.join(strange[:_SHOWN])} are not in {corpus_file}; expected"
                " the corpus these scores were made from. Score again with --refresh scores"
            )
        examples = corpus.take(pa.array([row_of[name] for name in part["id"].to_pylist()], type=pa.int64()))
        rows = _flat_scores(part, scores_file, metric)
        _check_ends(rows, examples["completion"].to_pylist())
        kept, rendered = reader.read(examples)
        if len(kept) < part.num_rows:
            rows = _flat_scores(part.take(kept), scores_file, metric)
        parts.append(_align(rows, rendered))
        tick(start + part.num_rows)
    return ReadShard(pa.concat_tables([ALIGNED.schema.empty_table(), *parts]), reader.rejects, reader.shown)


def token_rows(table: pa.Table) -> TokenRows:
    """Ids and difficulties of an aligned shard, flat."""
    lists = table["difficulty_nats"].combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return TokenRows(table["id"].to_pylist(), _offsets(lists), values)


def read_token_rows(files: Sequence[Path]) -> Iterator[TokenRows]:
    """`token_rows` of each file; one file in memory at a time."""
    for path in files:
        yield token_rows(pq.ParquetFile(path).read(columns=["id", "difficulty_nats"]))


def _offsets(lists: Any) -> npt.NDArray[np.int64]:
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _flat_scores(table: pa.Table, file: Path, metric: str) -> _Scores:
    """The metric of some rows, checked."""
    ids = table["id"].to_pylist()
    values = table[METRIC_COLUMNS[metric]].combine_chunks()
    ends = table["byte_end"].combine_chunks()
    missing = [name for name, valid in zip(ids, values.is_valid().to_pylist(), strict=True) if not valid]
    if missing:
        raise ConfigError(
            f"buckets.metric: {metric}: {file} has no {METRIC_COLUMNS[metric]} for ids"
            f" {', '.join(missing[:_SHOWN])}; expected a value per token. Set buckets.metric to nll, or score"
            " with a teacher that gives the whole distribution (scores.teacher: transformers)"
        )
    offset_R1 = _offsets(ends)
    uneven = np.flatnonzero(np.diff(offset_R1) != np.diff(_offsets(values)))
    if len(uneven):
        raise CorruptShardError(
            f"{file}: ids {', '.join(ids[row] for row in uneven[:_SHOWN])}: byte_end and"
            f" {METRIC_COLUMNS[metric]} have unequal lengths. Score again with --refresh scores"
        )
    value_T = values.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    _check_values(value_T, offset_R1, ids, file)
    return _Scores(ids, offset_R1, ends.flatten().to_numpy(zero_copy_only=False), value_T)


def _check_values(
    value_T: npt.NDArray[np.float64], offset_R1: npt.NDArray[np.int64], ids: list[str], file: Path
) -> None:
    bad = np.flatnonzero(~((value_T >= 0) & np.isfinite(value_T)))
    if len(bad):
        rows = np.unique(np.searchsorted(offset_R1, bad, side="right") - 1)
        raise NonFiniteScoreError(
            f"{file}: {len(bad)} of {len(value_T)} scores are not finite and ≥ 0 (ids"
            f" {', '.join(ids[row] for row in rows[:_SHOWN])}, first value {value_T[bad[0]]}); expected nats"
            " ≥ 0. Score again with --refresh scores"
        )


def _align(scores: _Scores, rendered: RenderedRows) -> pa.Table:
    """Student tokens of some examples with their difficulty; scores and examples are in the same order."""
    completions = rendered.targets
    difficulty_S = align_rows(
        scores.byte_end_T,
        scores.value_T,
        scores.offset_R1,
        completions.byte_end_T,
        completions.offset_R1,
        scores.ids,
    )
    # + 0.0 turns −0.0 into 0.0, whose bit pattern sorts first.
    stored_S = difficulty_S.astype(np.float32) + np.float32(0.0)
    offsets = pa.array(completions.offset_R1, type=pa.int32())
    columns = [*token_columns(scores.ids, rendered), pa.ListArray.from_arrays(offsets, pa.array(stored_S))]
    return pa.Table.from_arrays(columns, schema=ALIGNED.schema)


def _check_ends(scores: _Scores, texts: list[str]) -> None:
    """Raises AlignmentError unless every row ends with an end of turn, at the completion's last byte."""
    size_R = np.array([len(text.encode()) for text in texts], np.int64)
    length_R, after_R = np.diff(scores.offset_R1), scores.offset_R1[1:]
    end_T = np.concatenate([np.full(2, -1, np.int32), scores.byte_end_T])  # so that each row has two before
    last_R, before_R = end_T[after_R + 1], end_T[after_R]
    good_R = (length_R > 0) & (last_R == size_R)
    good_R &= (size_R == 0) | ((length_R > 1) & (before_R == last_R))
    for row in np.flatnonzero(~good_R)[:1].tolist():
        end = scores.byte_end_T[scores.offset_R1[row] : scores.offset_R1[row + 1]]
        raise AlignmentError(
            f"example {scores.ids[row]}: the teacher's offsets end {end[-2:].tolist()}, its completion"
            f" has {size_R[row]} bytes; expected its last token and the end of turn to end at"
            f" byte {size_R[row]}. Score this corpus again with --refresh scores"
        )
