"""Examples as training takes them: truncated, buckets in the order of training, or steps as rolled out.

They are written once per host, as files that all ranks map (`mapped.py`): 4 bytes per token, 1 per bucket and
some 120 per example. The file lies in the run's scratch folder and goes with it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trims_core.errors import InputError
from trims_core.fingerprint import sha256_json
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
from trims_core.training.sources import Block, Source
from trims_core.variants import Order

logger = logging.getLogger(__name__)

_VERSION: Final = 3
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
    "reference_start",
    "reference_length",
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
    """Whether the last token is an end: not after truncation, nor of a rollout that never ended."""
    buckets: Sequence[npt.NDArray[np.uint8]] | None
    """Per completion token, in the order of training; None of rollouts."""
    n_buckets: int
    n_truncated: int
    n_without_completion: int
    reveal_steps: Sequence[npt.NDArray[np.int16]] | None = None
    """Of rollouts: the step at which each of the answer's tokens was revealed; −1: never."""
    references: Sequence[npt.NDArray[np.int32]] | None = None
    """The prompts that a frozen reference reads, where they are not the student's. What would be longer than
    max_length behind them was left out."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What the source counted beside the examples, and what references left no room for."""

    @property
    def prompts(self) -> Sequence[str] | None:
        """Of rollouts: the id of the prompt that each one answers; None where each example has its own."""
        return None if self.reveal_steps is None else [name.rpartition("#")[0] for name in self.ids]

    @property
    def longest(self) -> Lengths:
        """Student tokens of the longest sequence that each example becomes."""
        if self.references is None:
            return self.lengths
        reference_R = np.array([len(reference) for reference in self.references], np.int64)
        return np.maximum(self.lengths, self.lengths - self.prompt_lengths + reference_R)


def load_examples(source: Source, order: Order, seed: int, max_length: int, scratch: Path) -> Examples:
    """The examples of a source, sorted by id, mapped from a folder in `scratch`.

    The folder is written where it is not there yet; ranks that start at the same time wait for one of them.

    Raises:
        SchemaError, CorruptShardError: see the sources.
        InputError: nothing is left to train on.
    """
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in source.files()]
    about = [_VERSION, states, source.n_buckets, order, seed, max_length]
    folder = scratch / f"examples-{sha256_json(about)[:16]}"
    make_once(folder, _Writing(source, order, seed, max_length).write)
    pa.default_memory_pool().release_unused()  # what was written with: Arrow keeps pages that are free
    arrays = {name: map_array(folder, name) for name in _ARRAYS}
    lost = json.loads((folder / _LOST_FILE).read_bytes())
    _tell_lost(lost, len(arrays["length"]), max_length)
    completion_lengths = arrays["length"] - arrays["prompt_length"]
    ids = map_column(folder, "ids", np.uint8)
    input_ids = map_column(folder, "tokens", np.int32)
    has_buckets = source.column == "buckets"
    values = MappedRows(
        map_column(folder, source.column, np.uint8 if has_buckets else np.int16),
        arrays["bucket_start"],
        completion_lengths,
    )
    references = MappedRows(
        map_column(folder, "reference", np.int32), arrays["reference_start"], arrays["reference_length"]
    )
    return Examples(
        ids=MappedNames(MappedRows(ids, arrays["id_start"], arrays["id_length"])),
        input_ids=MappedRows(input_ids, arrays["token_start"], arrays["length"]),
        prompt_lengths=arrays["prompt_length"],
        lengths=arrays["length"],
        ends_in_turn=arrays["ends_in_turn"],
        buckets=values if has_buckets else None,
        reveal_steps=None if has_buckets else values,
        n_buckets=source.n_buckets,
        n_truncated=lost["n_truncated"],
        n_without_completion=lost["n_without_completion"],
        references=references if arrays["reference_length"].any() else None,
        left_out=lost["left_out"],
    )


@dataclass(frozen=True)
class _Writing:
    """How the files are made: one shard in memory at a time, and some 100 bytes per example."""

    source: Source
    order: Order
    seed: int
    max_length: int

    def write(self, folder: Path) -> None:
        """Fill the folder. Raises: like `load_examples`."""
        cuts = RandomCuts()
        if self.order == "random":
            cuts = random_cuts(self.source.named_lengths, self.source.n_buckets, self.seed)
        parts: list[dict[str, Array]] = []
        names, lost, crowded, has_references = [], [], [], False
        with ColumnWriter(folder, ("tokens", self.source.column, "reference")) as columns:
            for block in self.source.blocks():
                has_room_R, fits_R = self._which_fit(block)
                has_references |= block.references is not None
                parts.append(self._append(columns, block, has_room_R & fits_R, cuts))
                names.append(block.ids.filter(pa.array(has_room_R & fits_R)))
                lost.append(block.ids.filter(pa.array(~has_room_R)))
                crowded.append(block.ids.filter(pa.array(has_room_R & ~fits_R)))
        lost_ids, crowded_ids = pa.concat_arrays(lost), pa.concat_arrays(crowded)
        ids = pa.concat_arrays(names)
        if not len(ids):
            behind = f" ({len(crowded_ids)} of them behind the reference's prompt)" if has_references else ""
            raise InputError(
                f"none of {len(lost_ids) + len(crowded_ids)} examples has a completion token within"
                f" train.max_length {self.max_length}{behind}; raise train.max_length or check the corpus"
            )
        order = pc.sort_indices(ids)  # of UTF-8, which sorts like the text
        ids = ids.take(order)
        (folder / "ids.bin").write_bytes(b"".join(ids.cast(pa.large_binary()).to_pylist()))
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        lengths = {
            "token": arrays["length"],
            "bucket": arrays["length"] - arrays["prompt_length"],
            "reference": arrays["reference_length"],
        }
        arrays |= {f"{name}_start": _starts(length) for name, length in lengths.items()}
        arrays = {name: array[np.asarray(order)] for name, array in arrays.items()}
        arrays["id_length"] = np.asarray(pc.binary_length(ids)).astype(np.int64)
        arrays["id_start"] = _starts(arrays["id_length"])
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", arrays[name])
        about = {
            "n_truncated": int((~arrays.pop("is_whole")).sum()),
            "left_out": self.source.left_out()
            | ({"n_reference_too_long": len(crowded_ids)} if has_references else {}),
            "n_without_completion": len(lost_ids),
            "ids": _first(lost_ids),
            "crowded_ids": _first(crowded_ids),
        }
        (folder / _LOST_FILE).write_text(json.dumps(about), encoding="utf-8")

    def _which_fit(self, block: Block) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Whether a row's prompt leaves room for its completion, and whether the reference's prompt does for
        all of it that is trained on."""
        prompt_R = block.prompt_lengths
        behind_R = np.minimum(np.diff(block.token_offsets), self.max_length) - prompt_R
        return prompt_R < self.max_length, block.reference_lengths + behind_R <= self.max_length

    def _append(
        self, columns: ColumnWriter, block: Block, kept_R: npt.NDArray[np.bool_], cuts: RandomCuts
    ) -> dict[str, Array]:
        """Writes the rows of a block that are kept; gives back their numbers."""
        full_R, value_offsets = np.diff(block.token_offsets), block.value_offsets
        length_R = np.minimum(full_R, self.max_length)
        for row in np.flatnonzero(kept_R).tolist():
            start, first = block.token_offsets[row], value_offsets[row]
            room = length_R[row] - block.prompt_lengths[row]
            values = block.values[first : value_offsets[row + 1]]
            if self.order in _INSIDE_EXAMPLES:
                values = values[:room]
            name = block.ids[row].as_py() if self.order in _BY_NAME else ""
            shown = ordered(values, name, self.source.n_buckets, self.order, self.seed, cuts)
            tokens = block.tokens[start : start + length_R[row]]
            row_values: dict[str, Array] = {"tokens": tokens, self.source.column: shown[:room]}
            if block.references is not None:
                row_values["reference"] = block.references[row]
            columns.append(**row_values)
        return {
            "prompt_length": block.prompt_lengths[kept_R],
            "length": length_R[kept_R],
            "ends_in_turn": block.has_end[kept_R] & (full_R[kept_R] <= self.max_length),
            "is_whole": full_R[kept_R] <= self.max_length,
            "reference_length": block.reference_lengths[kept_R],
        }


def _starts(lengths: Lengths) -> Lengths:
    return np.cumsum(lengths) - lengths


def _first(ids: Any) -> list[str]:
    found: list[str] = ids.take(pc.sort_indices(ids))[:_IDS_SHOWN].to_pylist()
    return found


def _tell_lost(lost: dict[str, Any], n_kept: int, max_length: int) -> None:
    n_crowded = lost["left_out"].get("n_reference_too_long", 0)
    n_all = n_kept + lost["n_without_completion"] + n_crowded
    message = "%d of %d examples left out: %s train.max_length %d (first ids: %s)"
    for n, why, ids in (
        (lost["n_without_completion"], "the prompt alone fills", lost["ids"]),
        (
            n_crowded,
            "behind the reference's prompt, which has the right answer, they exceed",
            lost["crowded_ids"],
        ),
    ):
        if n:
            logger.warning(message, n, n_all, why, max_length, ", ".join(ids))
