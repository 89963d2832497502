"""What batching does to answers, and what one answer takes: some problems decoded once more, one at a time.

Sums over a batch are not associative: in half precision a tie of two tokens, and with it all that follows,
may fall otherwise (docs/evaluation.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trims_core.schema import SAMPLES, TIMES, read_table
from trims_core.store import UnitRecord

ALONE = 1
"""Sequences in a batch of the check."""


def check_of(alone: UnitRecord, chunks: Sequence[UnitRecord]) -> dict[str, Any]:
    """A cell's check: n, n_changed (answers with other tokens than in the cell), latency.

    Args:
        alone: the unit decoded one at a time.
        chunks: the cell's own units, which hold the same problems and more.
    """
    in_batches: dict[str, list[int]] = {}
    for chunk in chunks:
        in_batches |= _tokens(chunk)
    again = _tokens(alone)
    changed = sum(in_batches[name] != tokens for name, tokens in again.items())
    return {"n": len(again), "n_changed": changed, "latency": latency_of([alone])}


def latency_of(records: Sequence[UnitRecord]) -> dict[str, float]:
    """Seconds per sample of what was decoded one at a time: median and 95th percentile."""
    seconds = [read_table(record.file("times.parquet"), TIMES)["seconds"].to_pylist() for record in records]
    p50, p95 = np.quantile(np.concatenate(seconds), (0.5, 0.95))
    return {"p50_s": float(p50), "p95_s": float(p95)}


def _tokens(record: UnitRecord) -> dict[str, list[int]]:
    rows = read_table(record.file("samples.parquet"), SAMPLES).select(["sample_id", "token_ids"]).to_pydict()
    return dict(zip(rows["sample_id"], rows["token_ids"], strict=True))
