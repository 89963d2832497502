"""Examples as the tensors of a micro-batch, masks and weights included.

Shape legend: B sequences of a micro-batch, L padded length, C tokens of one answer. A row of L: prompt,
content (the answer and its end of turn), supervised ends, dead columns (neither attended nor trained on).
Where masking.py says completion positions, here all L stand, prompts being neither content nor ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trims_core.config import TrainingConfig
from trims_core.errors import InputError
from trims_core.masking import (
    Draws,
    Masks,
    Ordering,
    bucket_profile,
    draw,
    draw_masks,
    draw_seed,
    loss_weights,
    mean_probability,
)
from trims_core.training.examples import Examples
from trims_core.training.loss import normalise
from trims_core.training.plan import MicroBatch
from trims_core.variants import EndsConfig, VariantConfig

RowMasks = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""An answer's ids_C and a generator to masked_C (bool) and the probabilities that weights go by (float32)."""


COUNTED: Final = ("n_content", "n_masked_content", "n_ends", "n_columns", "n_dead")


@dataclass(frozen=True)
class Batch:
    """A micro-batch on its way to the model.

    noisy_BL: int64, [MASK] put in. target_BL: int64, the clean tokens. masked_BL, content_BL, end_BL: bool.
    weight_BL: float32, weight of each masked token's cross-entropy, normalisation over the global batch
    included. attention_BL: int64, or None where no column is dead. counts: named by COUNTED.
    """

    noisy_BL: Tensor
    target_BL: Tensor
    masked_BL: Tensor
    content_BL: Tensor
    end_BL: Tensor
    weight_BL: Tensor
    attention_BL: Tensor | None
    counts: tuple[int, ...]
    dropout_seed: int
    ids: tuple[str, ...]

    def tensors(self) -> dict[str, Tensor | tuple[int, ...] | int | None]:
        """What the trainer hands on; content and ids stay here."""
        kept = (item.name for item in fields(self) if item.name not in ("content_BL", "ids"))
        return {name: getattr(self, name) for name in kept}


class MaskedExamples(Dataset[Batch]):
    """Maps a micro-batch of the schedule to tensors with freshly drawn masks.

    `validation` replaces the variant's masks by standard ones whose t is spread evenly over the held-out
    examples, with every end hidden, and leaves weights unnormalised: the same for every variant and step.
    """

    def __init__(
        self,
        examples: Examples,
        config: TrainingConfig,
        variant: VariantConfig,
        ends: EndsConfig,
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
        trajectory = Ordering(
            examples.n_buckets,
            variant.rho,
            variant.p_low,
            variant.p_high,
            config.mask_epsilon,
            two_sided=variant.order == "two_sided",
        )
        is_standard = bool(validation) or variant.method == "standard"
        self._ordering = replace(trajectory, rho=0.0) if is_standard else trajectory
        # standard masks may borrow a trajectory's weights; else weights belong to the masks that are drawn
        borrowed = variant.loss_weight == "bucket_profile"
        self._profile_K = bucket_profile(trajectory if borrowed else self._ordering)
        hidden = {"pads": "hidden", "weight": 1.0, "hide_end_of_turn": False}
        self._ends = ends.model_copy(update=hidden) if validation else ends

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
        weight_BL = torch.where(end_BL, self._ends.weight * weight_BL, weight_BL)
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
            counts=(
                int(content_BL.sum()),
                int((content_BL & masks.masked_BC).sum()),
                int(end_BL.sum()),
                attended_BL.numel(),
                int((~attended_BL).sum()),
            ),
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
            ids_L = examples.input_ids[example].astype(np.int64)  # a copy: what is mapped is read-only
            target_BL[row, : int(length_B1[row])] = torch.from_numpy(ids_L)
        place_L = torch.arange(micro_batch.pad_to)
        content_end_B1 = length_B1
        if self._ends.hide_end_of_turn:
            content_end_B1 = length_B1 - torch.from_numpy(examples.ends_in_turn[rows]).long()[:, None]
        prompt_BL = place_L < prompt_B1
        content_BL = ~prompt_BL & (place_L < content_end_B1)
        end_BL = ~prompt_BL & (place_L >= content_end_B1) & (place_L < length_B1 + n_ends_B1)
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
            bucket_BL[row, prompt_length:length] = torch.from_numpy(
                self._examples.buckets[entry.example].copy()
            )
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
                ids_C = target_BL[row, content_L]
                masked_C, probability_C = own_masks(ids_C, torch.Generator().manual_seed(seed))
                name = self._examples.ids[micro_batch.entries[row].example]
                check_own_masks(masked_C, probability_C, len(ids_C), name)
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


def check_own_masks(masked_C: Tensor, probability_C: Tensor, n_tokens: int, example_id: str) -> None:
    """Raises: InputError where a user's masks cannot be trained on; names the example."""
    shape = (n_tokens,)
    good = masked_C.dtype == torch.bool and masked_C.shape == probability_C.shape == shape
    if good:
        of_masked = probability_C[masked_C]
        good = bool(((of_masked > 0) & (of_masked <= 1)).all() and torch.isfinite(probability_C).all())
    if not good:
        raise InputError(
            f"train.variants masks, example {example_id!r}: {masked_C.dtype} {tuple(masked_C.shape)} and"
            f" probabilities {tuple(probability_C.shape)}; expected bool and floats of {shape}, finite, above"
            " 0 and at most 1 where a token is masked. Correct your function"
        )
