"""LIFT (arXiv 2605.22939): the student's own likelihoods decide which masked tokens stay masked.

    t ~ ε + (1−ε)·U(0,1),  ρ ~ U(0.1, 1−t);  every token is masked with t + ρ: n of them
    a pass without gradient gives log p_i, how easy each of the n is
    k = round(n · t / (t + ρ)) stay masked, the others are shown, by the policy of highest score:
        vanilla  3t(1−t)   any k of the n
        top      t         the easiest: hard tokens are context while most is masked (t > 2/3)
        bottom   1 − t     the hardest: easy tokens are context while little is (t < 1/3)
    loss = Σ_{i masked} 1/t · −log p(x_i | masked sequence) / tokens of the global batch's answers

Here each sequence's own t chooses its policy (published: the mean t of the micro-batch), so that masks do not
depend on what else is in it; and a sequence of which anything was masked keeps at least one masked token.

Shape legend: B sequences, L padded length, M masked positions of the first canvas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from trims_core.masking import standard_t
from trims_core.training.method import Context, Loss
from trims_core.training.methods.terms import masked_loss, mean_with_ends
from trims_core.training.sequences import Batch, Sequences, Totals, View
from trims_core.training.student import TrainedStudent
from trims_core.variants import LiftVariant

POLICIES: Final = ("vanilla", "top", "bottom")
_LEAST_MARGIN: Final = 0.1


class Lift:
    """Masks too much, asks the student, shows some of it again."""

    n_losses = 1

    def __init__(self, variant: LiftVariant, context: Context) -> None:
        self._variant, self._context = variant, context

    def batch(self, sequences: Sequences) -> Batch:
        """The canvases that the frozen pass looks at."""
        draws = sequences.draws("train")
        t_B = standard_t(draws.noise_B, self._context.train.mask_epsilon)
        rho_B = margins(draws.noise_B, draws.mixing_B)
        over_BL = sequences.content_BL & (draws.token_BC < (t_B + rho_B)[:, None])
        return self.over_masked(sequences, t_B, rho_B, over_BL, sequences.draws("lift").token_BC)

    def over_masked(
        self, sequences: Sequences, t_B: Tensor, rho_B: Tensor, over_BL: Tensor, any_BL: Tensor
    ) -> Batch:
        """The canvases that follow from the draws.

        Args:
            over_BL: the n tokens, bool. any_BL: of which vanilla takes the k largest.
        """
        variant, ends = self._variant, self._context.ends
        # 1. which policy, and how many stay masked; published: top and bottom may keep none
        policy_B = policies(t_B.mean().expand_as(t_B) if variant.compat else t_B, variant.components)
        least_B = (policy_B == POLICIES.index("vanilla")) | (not variant.compat)
        keep_B = keep_counts(over_BL.sum(1), t_B, rho_B, least_B)
        # 2. what the frozen student sees: no end, no token of the n
        end_BL = sequences.masked_ends(ends, self._context.train.mask_epsilon)
        noisy_BL = torch.where(over_BL | end_BL, self._context.mask_id, sequences.target_BL)
        # 3. how much each token counts if it stays masked
        weight_B = 1.0 / t_B if variant.divide_by_t else torch.ones_like(t_B)
        weight_BL = torch.where(end_BL, ends.weight, weight_B[:, None] * over_BL)
        seed = sequences.dropout_seeds(0)
        view = View(noisy_BL, over_BL, weight_BL, seed, aligned=not variant.compat)
        return sequences.batch(
            [view],
            {"n_masked_content": int(keep_B.sum())},
            keep_B=keep_B,
            policy_B=policy_B,
            any_BL=any_BL,
            hidden_end_BL=end_BL,
        )

    def losses(self, student: TrainedStudent, batch: Batch, totals: Totals) -> Iterator[Loss]:
        """Cross-entropy of what stays masked."""
        view = self.learned(student, batch)
        weight_BL = mean_with_ends(batch, view, "n_content", totals)
        yield masked_loss(student, batch, view, weight_BL, totals, self._variant)

    def learned(self, student: TrainedStudent, batch: Batch) -> View:
        """The canvas that is learned from: some of the n shown again."""
        first, extras = batch.view, batch.extras
        # 4. how easy the student finds each of the n
        with student.frozen():
            nll_M = student.rows(batch, first).nll_M
        log_p_BL = torch.zeros_like(first.weight_BL).masked_scatter(first.scored_BL, -nll_M)
        # 5. k of them stay
        score_BL = policy_scores(extras["policy_B"], log_p_BL, extras["any_BL"])
        kept_BL = highest(score_BL, first.scored_BL, extras["keep_B"])
        # 6. what the student sees
        masked_BL = kept_BL | extras["hidden_end_BL"]
        noisy_BL = torch.where(masked_BL, self._context.mask_id, batch.target_BL)
        weight_BL = torch.where(masked_BL, first.weight_BL, 0.0)
        return View(noisy_BL, masked_BL, weight_BL, first.dropout_seed, first.aligned)


def margins(t_draw_B: Tensor, rho_draw_B: Tensor) -> Tensor:
    """ρ_B, uniform in (0.1, 1−t), from 0 where 1−t is at most 0.1; t without its ε, as published."""
    room_B = 1.0 - t_draw_B
    least_B = torch.where(room_B > _LEAST_MARGIN, _LEAST_MARGIN, 0.0)
    return least_B + rho_draw_B * (room_B - least_B)


def policies(t_B: Tensor, components: int) -> Tensor:
    """Index into POLICIES of the one that scores highest, int64 [B]."""
    vanilla_B = 3.0 * t_B * (1.0 - t_B) if components == 3 else torch.zeros_like(t_B)
    return torch.stack([vanilla_B, t_B, 1.0 - t_B]).argmax(0)


def keep_counts(n_over_B: Tensor, t_B: Tensor, rho_B: Tensor, least_B: Tensor) -> Tensor:
    """k of the n masked tokens, int64 [B]: rounded half to even, at least 1 where `least_B` and n is."""
    rounded_B = (n_over_B * t_B / (t_B + rho_B)).round().long()
    return rounded_B.maximum(least_B.long()).minimum(n_over_B)


def policy_scores(policy_B: Tensor, log_p_BL: Tensor, any_BL: Tensor) -> Tensor:
    """What each sequence's policy ranks tokens by, float32 [B, L]."""
    policy_B1 = policy_B[:, None]
    ranked_BL = torch.where(policy_B1 == POLICIES.index("top"), log_p_BL, -log_p_BL)
    return torch.where(policy_B1 == POLICIES.index("vanilla"), any_BL, ranked_BL)


def highest(score_BL: Tensor, among_BL: Tensor, count_B: Tensor) -> Tensor:
    """The `count_B` positions of highest score among some, bool; the earlier of two that are equal."""
    order_BL = score_BL.masked_fill(~among_BL, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return among_BL & (order_BL.argsort(dim=1) < count_B[:, None])


def build(variant: LiftVariant, context: Context) -> Lift:
    """The method with a variant's settings."""
    return Lift(variant, context)
