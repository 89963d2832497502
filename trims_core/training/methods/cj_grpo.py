"""CJ-GRPO (arXiv 2509.23924): a clipped policy gradient at every step of the student's own decoding.

    x_s: the canvas before forward s of a rollout;  U_s: the positions that this forward revealed
    A    = reward − mean of the rewards of the same prompt's answers     (standardised: / (their std + 1e-4))
    ρ_i  = exp(log p(x_i | x_s) − log p_old(x_i | x_s)),  i in U_s;  old: the student that made the rollout
    k_i  = exp(d) − d − 1,  d = log p_ref(x_i | x_s) − log p(x_i | x_s);  ref: the student without its adapter
    ℓ_i  = −min(ρ_i A, clip(ρ_i, 1 − ε, 1 + ε) A) + β·k_i
    loss = mean over answers of the mean over their steps of the mean of ℓ over U_s       (sample_token)
           mean over steps of the mean of ℓ over the U_s of all answers                   (batch_token)

Log-probabilities are those of raw logits at temperature 1. p_old stands in the rollouts, decoded without
dropout. Each step's graph is gone back through before the next is made: S steps take the memory of one.

Shape legend: B sequences, L padded length, S steps, M scored positions of a canvas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from trims_core.errors import InputError
from trims_core.training.advantages import Judged, judged_rollouts
from trims_core.training.method import Context, Loss
from trims_core.training.sequences import Batch, Sequences, Totals, View
from trims_core.training.student import TrainedStudent
from trims_core.variants import CjGrpoVariant


class CjGrpo:
    """Rollouts of one round, all their steps.

    Args:
        judged: by `<example>#<rollout>`.
    """

    def __init__(self, variant: CjGrpoVariant, context: Context, judged: Mapping[str, Judged]) -> None:
        self._variant, self._mask_id, self._judged = variant, context.mask_id, judged
        self.n_losses = variant.n_forwards

    def batch(self, sequences: Sequences) -> Batch:
        """One canvas for each forward of the decoding."""
        step_BL, known_BL = sequences.reveal_BL, sequences.content_BL & (sequences.reveal_BL >= 0)
        judged = [self._judged[name] for name in sequences.ids]
        # 1. old log-probabilities, where the answer stands
        old_BL = torch.zeros(step_BL.shape)
        for row, (start, one) in enumerate(zip(sequences.start_B.tolist(), judged, strict=True)):
            _check_whole(sequences.ids[row], int(sequences.content_BL[row].sum()), len(one.logprob_C))
            old_BL[row, start : start + len(one.logprob_C)] = one.logprob_C
        # 2. canvas s shows the prompt and what earlier forwards revealed; scored: what this one reveals
        views, counts = [], {"n_flat": float(sum(one.is_flat for one in judged))}
        for step in range(self.n_losses):
            shown_BL = sequences.prompt_BL | (known_BL & (step_BL < step))
            scored_BL = known_BL & (step_BL == step)
            noisy_BL = torch.where(shown_BL, sequences.target_BL, self._mask_id)
            views.append(View(noisy_BL, scored_BL, scored_BL.float(), sequences.dropout_seeds(step)))
            counts[f"n_revealed_{step}"] = float(scored_BL.sum())
        advantage_B = torch.tensor([one.advantage for one in judged])
        counted_B = torch.tensor([self._variant.compat or not one.is_flat for one in judged])
        return sequences.batch(views, counts, old_BL=old_BL, advantage_B=advantage_B, counted_B=counted_B)

    def losses(self, student: TrainedStudent, batch: Batch, totals: Totals) -> Iterator[Loss]:
        """Step by step."""
        variant = self._variant
        weights = step_weights(batch, totals, variant.reduction)
        flat_share = torch.tensor(batch.counts["n_flat"] / totals.n_sequences / self.n_losses)
        for view, weight_BL in zip(batch.views, weights, strict=True):
            at_BL = view.scored_BL
            row_M = at_BL.nonzero()[:, 0]
            weight_M = weight_BL[at_BL] * batch.extras["counted_B"][row_M]
            rows = student.rows(batch, view, (1.0,))
            old_M = -student.start_nll(batch, view) if variant.old_dropout else batch.extras["old_BL"][at_BL]
            ratio_M = (-rows.nll_M - old_M).exp()
            advantage_M = batch.extras["advantage_B"][row_M]
            policy = -(weight_M * surrogate(ratio_M, advantage_M, variant.clip)).sum()
            parts, measures = {"policy": policy.detach()}, {"flat_share": flat_share}
            total = policy
            if variant.kl:
                reference_M = student.reference_nll(batch, view)
                kl = (weight_M * k3(rows.nll_M - reference_M)).sum()
                total = total + variant.kl * kl
                parts["kl"], measures["kl"] = variant.kl * kl.detach(), kl.detach()
            share_M = weight_BL[at_BL]  # of all tokens, those without a gradient among them
            measures["entropy"] = (share_M * rows.entropies[0].detach()).sum()
            measures["clip_share"] = (share_M * is_clipped(ratio_M, advantage_M, variant.clip)).sum()
            yield Loss(total, parts, measures)


def step_weights(batch: Batch, totals: Totals, reduction: str) -> list[Tensor]:
    """What each revealed token weighs, float32 [B, L] per step; of a global batch they sum to 1."""
    scored_SBL = torch.stack([view.scored_BL for view in batch.views])
    n_SB = scored_SBL.sum(2)
    if reduction == "sample_token":
        n_steps_B = (n_SB > 0).sum(0).clamp(min=1)
        weight_SB = 1.0 / (n_SB.clamp(min=1) * n_steps_B * totals.n_sequences)
    else:
        n_S = torch.tensor([totals[f"n_revealed_{step}"] for step in range(len(n_SB))], device=n_SB.device)
        weight_SB = (1.0 / (n_S.clamp(min=1) * (n_S > 0).sum().clamp(min=1)))[:, None].expand(n_SB.shape)
    return list((scored_SBL * weight_SB[:, :, None]).float())


def surrogate(ratio_M: Tensor, advantage_M: Tensor, clip: float) -> Tensor:
    """min(ρ A, clip(ρ) A): what is raised."""
    return torch.minimum(ratio_M * advantage_M, ratio_M.clamp(1 - clip, 1 + clip) * advantage_M)


def k3(difference_M: Tensor) -> Tensor:
    """exp(d) − d − 1 of d = log p_ref − log p: an unbiased estimate of KL(p ‖ p_ref) from p's own tokens."""
    return difference_M.exp() - difference_M - 1


def is_clipped(ratio_M: Tensor, advantage_M: Tensor, clip: float) -> Tensor:
    """bool: tokens whose gradient the clip removes."""
    return ((advantage_M > 0) & (ratio_M > 1 + clip)) | ((advantage_M < 0) & (ratio_M < 1 - clip))


def _check_whole(name: str, n_content: int, n_canvas: int) -> None:
    if n_content != n_canvas:
        raise InputError(
            f"rollout {name}: {n_content} of its {n_canvas} canvas positions are left within"
            " train.max_length; expected all. Raise train.max_length, or lower rollouts.gen_length"
        )


def build(variant: CjGrpoVariant, context: Context) -> CjGrpo:
    """The method with a variant's settings, on its round's rollouts."""
    judged = judged_rollouts(context.rollouts, context.rollout_grades, variant.advantage)
    return CjGrpo(variant, context, judged)
