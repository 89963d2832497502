"""How much the difficulties of the same student tokens moved between two bucketings.

Examples are joined by id, tokens by their place in the completion. Covered: two teachers, or two settings,
over the same student tokenizer. Not covered: another student tokenizer; examples whose tokens differ in
number or kind are left out and counted (`n_examples_incomparable`).

Shapes: N student completion tokens of all joined examples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from trims_core.errors import SchemaError
from trims_core.schema import BUCKETS, read_table

Floats = npt.NDArray[np.float64]
_COLUMNS: Final = ("id", "input_ids", "prompt_length", "difficulty_nats", "bucket")


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

    Memory: about 60 bytes per token of the joined examples.

    Raises:
        SchemaError: a shard is not a bucket table, or no example is in both.
    """
    frame_old, frame_new = _read(old), _read(new)
    joined = frame_old.join(frame_new, on="id", how="inner", suffix="_new")
    same = (pl.col("input_ids") == pl.col("input_ids_new")) & (
        pl.col("prompt_length") == pl.col("prompt_length_new")
    )
    kept = joined.filter(same)
    if kept.height == 0:
        raise SchemaError(
            f"drift: none of {frame_old.height} old and {frame_new.height} new examples has the same id and"
            " student tokens in both; expected two bucketings of one corpus and student"
        )
    old_N, new_N = _flat(kept, "difficulty_nats"), _flat(kept, "difficulty_nats_new")
    bucket_old_N, bucket_new_N = _flat(kept, "bucket"), _flat(kept, "bucket_new")
    return Drift(
        n_examples=kept.height,
        n_examples_only_old=frame_old.height - joined.height,
        n_examples_only_new=frame_new.height - joined.height,
        n_examples_incomparable=joined.height - kept.height,
        n_tokens=int(old_N.size),
        spearman=spearman(old_N, new_N),
        share_changed_bucket=float(np.mean(bucket_old_N != bucket_new_N)),
        mean_old_nats=float(old_N.mean()),
        mean_new_nats=float(new_N.mean()),
        k_old=int(bucket_old_N.max()),
        k_new=int(bucket_new_N.max()),
    )


def spearman(x_N: Floats, y_N: Floats) -> float | None:
    """Rank correlation in [-1, 1], ties at their mean rank; None if undefined (constant side, N < 2).

    Source: Polars' Pearson correlation of mean ranks; checked against a loop over pairs of ranks in
    tests/test_drift.py.
    """
    found = pl.select(pl.corr(pl.Series(x_N), pl.Series(y_N), method="spearman")).item()
    return None if math.isnan(found) else max(-1.0, min(1.0, float(found)))


def _read(shards: Iterable[Path]) -> pl.DataFrame:
    tables: list[pa.Table] = [read_table(path, BUCKETS).select(list(_COLUMNS)) for path in shards]
    if not tables:
        raise SchemaError("drift: a bucketing without shards; expected at least one bucket table")
    frame = pl.from_arrow(pa.concat_tables(tables))
    if not isinstance(frame, pl.DataFrame):
        raise SchemaError("drift: bucket shards did not form a table")
    return frame


def _flat(frame: pl.DataFrame, column: str) -> Floats:
    return frame.get_column(column).explode().cast(pl.Float64).to_numpy()
