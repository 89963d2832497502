"""Examples of the buckets artifact, as training takes them: truncated, buckets in the order of training."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from trims_core.config import Order, VariantConfig
from trims_core.errors import InputError, SchemaError
from trims_core.masking import order_buckets
from trims_core.schema import BUCKETS, read_table
from trims_core.training.plan import Lengths

logger = logging.getLogger(__name__)

_INSIDE_EXAMPLES: Final[tuple[Order, ...]] = ("shifted", "permuted")
"""Orders that move an example's own buckets: of what truncation leaves of it."""


@dataclass(frozen=True)
class Examples:
    """All usable examples, truncated to max_length; buckets in the order in which training shows tokens.

    n_truncated lost the end of their completion, their end of turn with it; n_without_completion were left
    out, because their prompt alone fills max_length.
    """

    ids: list[str]
    input_ids: list[npt.NDArray[np.int64]]
    prompt_lengths: Lengths
    lengths: Lengths
    ends_in_turn: npt.NDArray[np.bool_]
    """Whether the last token is the end of turn: not after truncation."""
    buckets: list[npt.NDArray[np.uint8]]
    n_buckets: int
    n_truncated: int
    n_without_completion: int


def load_examples(
    shards: Sequence[Path], n_buckets: int, variant: VariantConfig, seed: int, max_length: int
) -> Examples:
    """The examples of some bucket shards, sorted by id.

    Raises:
        SchemaError: a row whose buckets do not fit its tokens or exceed K.
        InputError: nothing is left to train on.
    """
    rows = sorted(_rows(shards, n_buckets), key=lambda row: row[0])
    kept = [row for row in rows if row[2] < max_length]
    _report_lost(rows, kept, max_length)
    ids = [row[0] for row in rows]
    buckets = [row[3] for row in rows]
    if variant.order in _INSIDE_EXAMPLES:
        buckets = [row[3][: max(0, max_length - row[2])] for row in rows]
    ordered = order_buckets(buckets, ids, n_buckets, variant.order, seed)
    by_id = dict(zip(ids, ordered, strict=True))
    lengths = np.array([min(len(row[1]), max_length) for row in kept], np.int64)
    prompt_lengths = np.array([row[2] for row in kept], np.int64)
    return Examples(
        ids=[row[0] for row in kept],
        input_ids=[row[1][:max_length] for row in kept],
        prompt_lengths=prompt_lengths,
        lengths=lengths,
        ends_in_turn=np.array([len(row[1]) <= max_length for row in kept], np.bool_),
        buckets=[by_id[row[0]][: length - row[2]] for row, length in zip(kept, lengths, strict=True)],
        n_buckets=n_buckets,
        n_truncated=sum(len(row[1]) > max_length for row in kept),
        n_without_completion=len(rows) - len(kept),
    )


Row = tuple[str, npt.NDArray[np.int64], int, npt.NDArray[np.uint8]]


def _rows(shards: Sequence[Path], n_buckets: int) -> Iterable[Row]:
    for path in shards:
        table = read_table(path, BUCKETS)
        for name, ids, prompt_length, bucket in zip(
            table["id"].to_pylist(),
            table["input_ids"],
            table["prompt_length"].to_pylist(),
            table["bucket"],
            strict=True,
        ):
            input_ids = ids.values.to_numpy().astype(np.int64)
            buckets = bucket.values.to_numpy().astype(np.uint8)
            if len(buckets) != len(input_ids) - prompt_length:
                raise SchemaError(
                    f"{path}: id {name!r} has {len(buckets)} buckets for"
                    f" {len(input_ids) - prompt_length} completion tokens; redo it with --refresh buckets"
                )
            if len(buckets) and not 1 <= buckets.min() <= buckets.max() <= n_buckets:
                raise SchemaError(
                    f"{path}: id {name!r} has buckets {buckets.min()}…{buckets.max()}, expected"
                    f" 1…{n_buckets}; redo it with --refresh buckets"
                )
            yield name, input_ids, prompt_length, buckets


def _report_lost(rows: Sequence[Row], kept: Sequence[Row], max_length: int) -> None:
    if not kept:
        raise InputError(
            f"none of {len(rows)} examples has a completion token within train.max_length {max_length};"
            " raise train.max_length or check the corpus"
        )
    if len(kept) < len(rows):
        lost = [row[0] for row in rows if row[2] >= max_length]
        logger.warning(
            "%d of %d examples left out: the prompt alone fills train.max_length %d (first ids: %s)",
            len(lost),
            len(rows),
            max_length,
            ", ".join(lost[:5]),
        )
