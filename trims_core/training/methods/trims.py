"""TRIMS (arXiv 2604.00666), and standard masked diffusion fine-tuning as its case ρ = 0.

    k ~ U{0 … K−1};  token i is masked with p_low if bucket_i ≤ k, with p_high otherwise      (share ρ)
    t ~ ε + (1−ε)·U(0,1);  every token is masked with t                                       (share 1−ρ)
    loss = Σ_{i masked} w_i · −log p(x_i | masked sequence) / maskable tokens of the global batch

Shape legend: B sequences, L padded length, K buckets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trims_core.errors import InputError
from trims_core.masking import Masks, Ordering, bucket_profile, draw_masks, loss_weights, mean_probability
from trims_core.training.method import Context, Loss
from trims_core.training.methods.terms import masked_loss, normalise
from trims_core.training.sequences import Batch, Sequences, Totals, View
from trims_core.training.student import TrainedStudent
from trims_core.user_code import load
from trims_core.variants import TrimsVariant


class Trims:
    """Masks from buckets.

    Args:
        purpose: of the draws; validation has its own.
    """

    n_losses = 1

    def __init__(self, variant: TrimsVariant, context: Context, purpose: str = "train") -> None:
        self._variant, self._context, self._purpose = variant, context, purpose
        trajectory = Ordering(
            context.n_buckets,
            variant.rho,
            variant.p_low,
            variant.p_high,
            context.train.mask_epsilon,
            two_sided=variant.order == "two_sided",
        )
        self._ordering = replace(trajectory, rho=variant.trajectory_rho)
        # standard masks may borrow a trajectory's weights; else weights belong to the masks that are drawn
        borrowed = variant.loss_weight == "bucket_profile"
        self._profile_K = bucket_profile(trajectory if borrowed else self._ordering)
        self._own_masks = None if variant.masks is None else load(variant.masks, "train.variants masks")

    def batch(self, sequences: Sequences) -> Batch:
        """One canvas for each sequence."""
        variant, ends = self._variant, self._context.ends
        # 1. which tokens are hidden: trajectories, the standard mask, ends
        draws, bucket_BL = sequences.draws(self._purpose), sequences.bucket_BL
        masks = draw_masks(bucket_BL, sequences.content_BL, sequences.end_BL, draws, self._ordering, ends)
        if self._own_masks is not None:
            masks = self._with_own(self._own_masks, sequences, masks)
        # 2. how much each of them counts
        weight_BL = loss_weights(
            variant.loss_weight,
            masks,
            bucket_BC=bucket_BL,
            profile_K=self._profile_K,
            clip=variant.inverse_p_clip,
            attended_BC=sequences.attended_BL,
            cart_p=variant.cart_p,
        )
        weight_BL = torch.where(sequences.end_BL, ends.weight * weight_BL, weight_BL)
        # 3. what the student sees
        noisy_BL = torch.where(masks.masked_BC, self._context.mask_id, sequences.target_BL)
        view = View(noisy_BL, masks.masked_BC, weight_BL, sequences.dropout_seeds(0))
        return sequences.batch([view], {})

    def losses(self, student: TrainedStudent, batch: Batch, totals: Totals) -> Iterator[Loss]:
        """Weighted cross-entropy of what is hidden."""
        view, norm = batch.view, self._context.train.loss_norm
        weight_BL = normalise(view.weight_BL, batch.n_supervised_B, norm, totals)
        yield masked_loss(student, batch, view, weight_BL, totals, self._variant)

    def _with_own(self, own_masks: Any, sequences: Sequences, masks: Masks) -> Masks:
        """The user's masks in place of the standard ones: trajectories and ends stay as drawn."""
        masked_BL, probability_BL = masks.masked_BC.clone(), masks.probability_BC.clone()
        for row, seed in enumerate(sequences.seeds("own masks")):
            if not masks.trajectory_B[row]:
                content_L = masks.content_BC[row]
                ids_C = sequences.target_BL[row, content_L]
                generator = torch.Generator().manual_seed(seed)
                masked_C, probability_C = own_masks(ids_C, self._context.tokenizer(), generator)
                check_own_masks(masked_C, probability_C, len(ids_C), sequences.ids[row])
                masked_BL[row, content_L], probability_BL[row, content_L] = masked_C, probability_C
        t_eff_B = mean_probability(probability_BL, masks.content_BC)
        return replace(masks, masked_BC=masked_BL, probability_BC=probability_BL, t_eff_B=t_eff_B)


def build(variant: TrimsVariant, context: Context) -> Trims:
    """The method with a variant's settings."""
    return Trims(variant, context)


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
