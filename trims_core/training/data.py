"""Examples of the buckets artifact as the tensors of a micro-batch, masks and weights included.

Shape legend: B sequences of a micro-batch, L padded length, C = completion positions, right-aligned to L
only through each sequence's own prompt length. A row of L: prompt, content (the answer and its end of turn),
supervised ends, dead columns (neither attended nor trained on).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trims_core.config import TrainConfig, VariantConfig
from trims_core.errors import InputError, SchemaError
from trims_core.masking import (
    Draws,
    EndRule,
    Masks,
    Ordering,
    bucket_profile,
    draw,
    draw_masks,
    draw_seed,
    loss_weights,
    mean_probability,
    order_buckets,
)
from trims_core.schema import BUCKETS, read_table
from trims_core.training.loss import normalise
from trims_core.training.plan import Lengths, MicroBatch

logger = logging.getLogger(__name__)

RowMasks = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""An answer's ids_C and a generator to masked_C (bool) and the probabilities that weights go by (float32)."""


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
    ordered = order_buckets([row[3] for row in rows], ids, n_buckets, variant.order, seed)
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


@dataclass(frozen=True)
class Batch:
    """A micro-batch on its way to the model.

    noisy_BL: int64, [MASK] put in. target_BL: int64, the clean tokens. masked_BL, content_BL, end_BL: bool.
    weight_BL: float32, weight of each masked token's cross-entropy, normalisation over the global batch
    included. attention_BL: int64, or None where no column is dead.
    """

    noisy_BL: Tensor
    target_BL: Tensor
    masked_BL: Tensor
    content_BL: Tensor
    end_BL: Tensor
    weight_BL: Tensor
    attention_BL: Tensor | None
    dropout_seed: int
    ids: tuple[str, ...]

    def tensors(self) -> dict[str, Tensor | int | None]:
        """What the trainer hands on; ids stay here."""
        return {
            "noisy_BL": self.noisy_BL,
            "target_BL": self.target_BL,
            "masked_BL": self.masked_BL,
            "content_BL": self.content_BL,
            "end_BL": self.end_BL,
            "weight_BL": self.weight_BL,
            "attention_BL": self.attention_BL,
            "dropout_seed": self.dropout_seed,
        }


class MaskedExamples(Dataset[Batch]):
    """Maps a micro-batch of the schedule to tensors with freshly drawn masks.

    `validation` replaces the variant's masks by standard ones whose t is spread evenly over the held-out
    examples, with every end hidden, and leaves weights unnormalised: the same for every variant and step.
    """

    def __init__(
        self,
        examples: Examples,
        config: TrainConfig,
        variant: VariantConfig,
        seed: int,
        *,
        mask_id: int,
        pad_id: int,
        validation: Sequence[int] = (),
        own_masks: RowMasks | None = None,
    ) -> None:
        self._examples = examples
        self._norm = config.loss_norm
        self._variant = variant
        self._seed = seed
        self._mask_id = mask_id
        self._pad_id = pad_id
        self._own_masks = None if validation else own_masks
        self._strata = {example: place for place, example in enumerate(validation)}
        # what the profile is computed for, though standard masks do not take the trajectory
        trajectory = Ordering(
            examples.n_buckets,
            variant.rho,
            variant.p_low,
            variant.p_high,
            config.mask_epsilon,
            two_sided=variant.order == "two_sided",
        )
        self._profile_K = bucket_profile(trajectory)
        is_standard = bool(validation) or variant.method == "standard"
        self._ordering = replace(trajectory, rho=0.0) if is_standard else trajectory
        ends = config.ends_of(variant)
        self._ends = EndRule("hidden" if validation else ends.pads, ends.rho, ends.p_high)
        self._end_weight = 1.0 if validation else ends.weight
        self._hides_end_of_turn = ends.hide_end_of_turn and not validation

    def __len__(self) -> int:
        return len(self._examples.ids)

    def __getitem__(self, micro_batch: MicroBatch) -> Batch:
        target_BL, prompt_BL, content_BL, end_BL = self._sequences(micro_batch)
        attended_BL = prompt_BL | content_BL | end_BL
        bucket_BL, masks = self._masks(micro_batch, content_BL, end_BL)
        if self._own_masks is not None:
            masks = self._with_own(self._own_masks, micro_batch, target_BL, masks)
        weight_BL = loss_weights(
            "inverse_t" if self._strata else self._variant.loss_weight,
            masks,
            bucket_BC=bucket_BL,
            profile_K=self._profile_K,
            clip=self._variant.inverse_p_clip,
            attended_BC=attended_BL,
            cart_p=self._variant.cart_p,
        )
        weight_BL = torch.where(end_BL, self._end_weight * weight_BL, weight_BL)
        if not self._strata:
            weight_BL = normalise(
                weight_BL,
                (content_BL | end_BL).sum(1),
                self._norm,
                n_supervised=micro_batch.n_supervised,
                n_sequences=micro_batch.n_sequences,
            )
        return Batch(
            noisy_BL=torch.where(masks.masked_BC, self._mask_id, target_BL),
            target_BL=target_BL,
            masked_BL=masks.masked_BC,
            content_BL=content_BL,
            end_BL=end_BL,
            weight_BL=weight_BL,
            attention_BL=None if bool(attended_BL.all()) else attended_BL.long(),
            dropout_seed=draw_seed(self._seed, micro_batch.step, str(micro_batch.index), "dropout"),
            ids=tuple(self._examples.ids[entry.example] for entry in micro_batch.entries),
        )

    def _sequences(self, micro_batch: MicroBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Padded tokens, and which positions are prompt, content and supervised ends."""
        examples, rows = self._examples, [entry.example for entry in micro_batch.entries]
        length_B1 = torch.from_numpy(examples.lengths[rows])[:, None]
        prompt_B1 = torch.from_numpy(examples.prompt_lengths[rows])[:, None]
        n_ends_B1 = torch.tensor([[entry.n_ends] for entry in micro_batch.entries])
        target_BL = torch.full((len(rows), micro_batch.pad_to), self._pad_id, dtype=torch.long)
        for row, example in enumerate(rows):
            target_BL[row, : int(length_B1[row])] = torch.from_numpy(examples.input_ids[example])
        place_L = torch.arange(micro_batch.pad_to)
        content_end_B1 = length_B1
        if self._hides_end_of_turn:
            content_end_B1 = length_B1 - torch.from_numpy(examples.ends_in_turn[rows]).long()[:, None]
        prompt_BL = place_L < prompt_B1
        content_BL = ~prompt_BL & (place_L < content_end_B1)
        end_BL = (place_L >= content_end_B1) & (place_L < length_B1 + n_ends_B1)
        return target_BL, prompt_BL, content_BL, end_BL

    def _masks(self, micro_batch: MicroBatch, content_BL: Tensor, end_BL: Tensor) -> tuple[Tensor, Masks]:
        """Buckets, and masks with the sequence's own draws put at its completion positions (C = L here)."""
        n_positions = content_BL.shape[1]
        raw = draw(self._seeds(micro_batch, "validation" if self._strata else "train"), n_positions)
        token_BL = torch.zeros(content_BL.shape)
        bucket_BL = torch.ones(content_BL.shape, dtype=torch.uint8)
        for row, entry in enumerate(micro_batch.entries):
            prompt_length = int(self._examples.prompt_lengths[entry.example])
            length = int(self._examples.lengths[entry.example])
            token_BL[row, prompt_length:] = raw.token_BC[row, : n_positions - prompt_length]
            bucket_BL[row, prompt_length:length] = torch.from_numpy(self._examples.buckets[entry.example])
        noise_B = self._stratified(micro_batch, raw.noise_B) if self._strata else raw.noise_B
        draws = Draws(raw.mixing_B, raw.cut_B, noise_B, raw.ends_B, token_BL)
        return bucket_BL, draw_masks(bucket_BL, content_BL, end_BL, draws, self._ordering, self._ends)

    def _with_own(
        self, own_masks: RowMasks, micro_batch: MicroBatch, target_BL: Tensor, masks: Masks
    ) -> Masks:
        """The user's masks in place of the standard ones: trajectories and ends stay as drawn."""
        masked_BL, probability_BL = masks.masked_BC.clone(), masks.probability_BC.clone()
        for row, seed in enumerate(self._seeds(micro_batch, "own masks")):
            if not masks.trajectory_B[row]:
                content_L = masks.content_BC[row]
                generator = torch.Generator().manual_seed(seed)
                masked_C, probability_C = own_masks(target_BL[row, content_L], generator)
                masked_BL[row, content_L], probability_BL[row, content_L] = masked_C, probability_C
        t_eff_B = mean_probability(probability_BL, masks.content_BC)
        return replace(masks, masked_BC=masked_BL, probability_BC=probability_BL, t_eff_B=t_eff_B)

    def _seeds(self, micro_batch: MicroBatch, purpose: str) -> list[int]:
        """One for each row; validation's are the same for every seed of a run."""
        seed = 0 if self._strata else self._seed
        ids = self._examples.ids
        return [draw_seed(seed, entry.epoch, ids[entry.example], purpose) for entry in micro_batch.entries]

    def _stratified(self, micro_batch: MicroBatch, noise_B: Tensor) -> Tensor:
        places = torch.tensor([self._strata[entry.example] for entry in micro_batch.entries])
        return (places + noise_B) / len(self._strata)
