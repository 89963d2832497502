"""Examples of the buckets artifact, as training takes them: truncated, buckets in the order of training.

They are written once per host, as files that all ranks map (`mapped.py`): 4 bytes per token, 1 per bucket and
some 100 per example. The file lies in the run's scratch folder and goes with it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trims_core.errors import InputError, SchemaError
from trims_core.fingerprint import sha256_json
from trims_core.schema import BUCKETS, read_table
from trims_core.training.mapped import (
    Array,
    ColumnWriter,
    MappedNames,
    MappedRows,
    make_once,
    map_array,
    map_column,
)
from trims_core.training.orders import RandomCuts, ordered, random_cuts
from trims_core.training.plan import Lengths
from trims_core.variants import Order

logger = logging.getLogger(__name__)

_VERSION: Final = 1
"""Of the files; raised when they hold something else."""
_INSIDE_EXAMPLES: Final[tuple[Order, ...]] = ("shifted", "permuted")
"""Orders that move an example's own buckets: of what truncation leaves of it."""
_BY_NAME: Final[tuple[Order, ...]] = ("permuted", "random")
"""Orders that draw by the example's id."""
_ARRAYS: Final = (
    "prompt_length",
    "length",
    "ends_in_turn",
    "token_start",
    "bucket_start",
    "id_start",
    "id_length",
)
_LOST_FILE: Final = "lost.json"
_IDS_SHOWN: Final = 5


@dataclass(frozen=True)
class Examples:
    """All usable examples, truncated to max_length; buckets in the order in which training shows tokens.

    n_truncated lost the end of their completion, their end of turn with it; n_without_completion were left
    out, because their prompt alone fills max_length.
    """

    ids: Sequence[str]
    input_ids: Sequence[npt.NDArray[np.int32]]
    prompt_lengths: Lengths
    lengths: Lengths
    ends_in_turn: npt.NDArray[np.bool_]
    """Whether the last token is the end of turn: not after truncation."""
    buckets: Sequence[npt.NDArray[np.uint8]]
    n_buckets: int
    n_truncated: int
    n_without_completion: int
    reveal_steps: Sequence[npt.NDArray[np.int16]] | None = None
    """Of rollouts: the step at which each of the answer's tokens was revealed; −1: never."""


def load_examples(
    shards: Sequence[Path], n_buckets: int, order: Order, seed: int, max_length: int, scratch: Path
) -> Examples:
    """The examples of some bucket shards, sorted by id, mapped from a folder in `scratch`.

    The folder is written where it is not there yet; ranks that start at the same time wait for one of them.

    Raises:
        SchemaError: a row whose buckets do not fit its tokens or exceed K.
        InputError: nothing is left to train on.
    """
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in shards]
    about = [_VERSION, states, n_buckets, order, seed, max_length]
    folder = scratch / f"examples-{sha256_json(about)[:16]}"
    make_once(folder, _Writing(shards, n_buckets, order, seed, max_length).write)
    pa.default_memory_pool().release_unused()  # what was written with: Arrow keeps pages that are free
    arrays = {name: map_array(folder, name) for name in _ARRAYS}
    lost = json.loads((folder / _LOST_FILE).read_bytes())
    _tell_lost(lost, len(arrays["length"]), max_length)
    completion_lengths = arrays["length"] - arrays["prompt_length"]
    ids = map_column(folder, "ids", np.uint8)
    input_ids = map_column(folder, "tokens", np.int32)
    buckets = map_column(folder, "buckets", np.uint8)
    return Examples(
        ids=MappedNames(MappedRows(ids, arrays["id_start"], arrays["id_length"])),
        input_ids=MappedRows(input_ids, arrays["token_start"], arrays["length"]),
        prompt_lengths=arrays["prompt_length"],
        lengths=arrays["length"],
        ends_in_turn=arrays["ends_in_turn"],
        buckets=MappedRows(buckets, arrays["bucket_start"], completion_lengths),
        n_buckets=n_buckets,
        n_truncated=lost["n_truncated"],
        n_without_completion=lost["n_without_completion"],
    )


@dataclass(frozen=True)
class _Writing:
    """How the files are made: one shard in memory at a time, and some 100 bytes per example."""

    shards: Sequence[Path]
    n_buckets: int
    order: Order
    seed: int
    max_length: int

    def write(self, folder: Path) -> None:
        """Fill the folder. Raises: like `load_examples`."""
        cuts = RandomCuts()
        if self.order == "random":
            cuts = random_cuts(self._named_lengths, self.n_buckets, self.seed)
        parts: list[dict[str, Array]] = []
        names, lost = [], []
        with ColumnWriter(folder, ("tokens", "buckets")) as columns:
            for path in self.shards:
                shard = _Shard.read(path, self.n_buckets)
                kept_R = shard.prompt_lengths < self.max_length
                parts.append(self._append(columns, shard, kept_R, cuts))
                names.append(shard.ids.filter(pa.array(kept_R)))
                lost.append(shard.ids.filter(pa.array(~kept_R)))
        lost_ids = pa.concat_arrays(lost)
        ids = pa.concat_arrays(names)
        if not len(ids):
            raise InputError(
                f"none of {len(lost_ids)} examples has a completion token within train.max_length"
                f" {self.max_length}; raise train.max_length or check the corpus"
            )
        order = pc.sort_indices(ids)  # of UTF-8, which sorts like the text
        ids = ids.take(order)
        (folder / "ids.bin").write_bytes(b"".join(ids.cast(pa.large_binary()).to_pylist()))
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        arrays["token_start"], arrays["bucket_start"] = (
            _starts(lengths) for lengths in (arrays["length"], arrays["length"] - arrays["prompt_length"])
        )
        arrays = {name: array[np.asarray(order)] for name, array in arrays.items()}
        arrays["id_length"] = np.asarray(pc.binary_length(ids)).astype(np.int64)
        arrays["id_start"] = _starts(arrays["id_length"])
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", arrays[name])
        about = {
            "n_truncated": int((~arrays["ends_in_turn"]).sum()),
            "n_without_completion": len(lost_ids),
            "ids": lost_ids.take(pc.sort_indices(lost_ids))[:_IDS_SHOWN].to_pylist(),
        }
        (folder / _LOST_FILE).write_text(json.dumps(about), encoding="utf-8")

    def _append(
        self, columns: ColumnWriter, shard: _Shard, kept_R: npt.NDArray[np.bool_], cuts: RandomCuts
    ) -> dict[str, Array]:
        """Writes the rows of a shard that are kept; gives back their numbers."""
        full_R = np.diff(shard.token_offsets)
        length_R = np.minimum(full_R, self.max_length)
        for row in np.flatnonzero(kept_R).tolist():
            start, first = shard.token_offsets[row], shard.bucket_offsets[row]
            room = length_R[row] - shard.prompt_lengths[row]
            bucket = shard.buckets[first : shard.bucket_offsets[row + 1]]
            if self.order in _INSIDE_EXAMPLES:
                bucket = bucket[:room]
            name = shard.ids[row].as_py() if self.order in _BY_NAME else ""
            shown = ordered(bucket, name, self.n_buckets, self.order, self.seed, cuts)
            columns.append(tokens=shard.tokens[start : start + length_R[row]], buckets=shown[:room])
        return {
            "prompt_length": shard.prompt_lengths[kept_R],
            "length": length_R[kept_R],
            "ends_in_turn": full_R[kept_R] <= self.max_length,
        }

    def _named_lengths(self) -> Iterator[tuple[str, int]]:
        for path in self.shards:
            table = pq.read_table(path, columns=["id", "bucket"])
            lengths = pc.list_value_length(table["bucket"]).to_pylist()
            yield from zip(table["id"].to_pylist(), lengths, strict=True)


@dataclass(frozen=True)
class _Shard:
    """A bucket shard, checked: row r has the tokens from token_offsets[r] to token_offsets[r + 1]."""

    ids: Any
    tokens: npt.NDArray[np.int32]
    token_offsets: Lengths
    prompt_lengths: Lengths
    buckets: npt.NDArray[np.uint8]
    bucket_offsets: Lengths

    @staticmethod
    def read(path: Path, n_buckets: int) -> _Shard:
        """Raises: SchemaError where a row's buckets do not fit its tokens or exceed K."""
        table = read_table(path, BUCKETS)
        tokens, token_offsets = _flat(table["input_ids"])
        buckets, bucket_offsets = _flat(table["bucket"])
        prompts = np.asarray(table["prompt_length"]).astype(np.int64)
        shard = _Shard(table["id"].combine_chunks(), tokens, token_offsets, prompts, buckets, bucket_offsets)
        shard._check(path, n_buckets)
        return shard

    def _check(self, path: Path, n_buckets: int) -> None:
        n_completion_R = np.diff(self.token_offsets) - self.prompt_lengths
        n_bucket_R = np.diff(self.bucket_offsets)
        for row in np.flatnonzero(n_bucket_R != n_completion_R)[:1].tolist():
            raise SchemaError(
                f"{path}: id {self.ids[row].as_py()!r} has {n_bucket_R[row]} buckets for"
                f" {n_completion_R[row]} completion tokens; redo it with --refresh buckets"
            )
        for place in np.flatnonzero((self.buckets < 1) | (self.buckets > n_buckets))[:1].tolist():
            row = int(np.searchsorted(self.bucket_offsets, place, side="right")) - 1
            own = self.buckets[self.bucket_offsets[row] : self.bucket_offsets[row + 1]]
            raise SchemaError(
                f"{path}: id {self.ids[row].as_py()!r} has buckets {own.min()}…{own.max()}, expected"
                f" 1…{n_buckets}; redo it with --refresh buckets"
            )


def _flat(lists: Any) -> tuple[Array, Lengths]:
    """Values and offsets of a list column."""
    array = lists.combine_chunks()
    lengths = np.asarray(pc.list_value_length(array)).astype(np.int64)
    return np.asarray(array.flatten()), np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def _starts(lengths: Lengths) -> Lengths:
    return np.cumsum(lengths) - lengths


def _tell_lost(lost: dict[str, Any], n_kept: int, max_length: int) -> None:
    if lost["n_without_completion"]:
        logger.warning(
            "%d of %d examples left out: the prompt alone fills train.max_length %d (first ids: %s)",
            lost["n_without_completion"],
            n_kept + lost["n_without_completion"],
            max_length,
            ", ".join(lost["ids"]),
        )
