"""GIFT (arXiv 2509.20863, as run in arXiv 2605.22939): what the student is unsure of is masked more often.

    β_i = √H_i,  H_i the entropy of the prediction of token i with all of the answer masked, without gradient
    t ~ ε + (1−ε)·U(0,1);  token i is masked with t_i = 1 − (1 − t)^(β_i / β̄),  β̄ the mean over the answer
    loss = Σ_{i masked} 1/t_i · −log p(x_i | masked sequence) / tokens of the global batch's answers

Token i is masked with probability t_i and then weighs 1/t_i: over the answers' tokens all weigh the same on
average. Published, the sum is divided by the number of *masked* tokens of the micro-batch, a second division
by about t; and β̄ is the micro-batch's, so that masks depend on what else is in it.

Shape legend: B sequences, L padded length.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from trims_core.masking import standard_t
from trims_core.training.method import Context, Loss
from trims_core.training.methods.terms import masked_loss, mean_with_ends
from trims_core.training.sequences import Batch, Sequences, Totals, View
from trims_core.training.student import TrainedStudent
from trims_core.variants import GiftVariant


class Gift:
    """Masks all of an answer, asks the student how sure it is, masks by that."""

    n_losses = 1

    def __init__(self, variant: GiftVariant, context: Context) -> None:
        self._variant, self._context = variant, context

    def batch(self, sequences: Sequences) -> Batch:
        """The canvases that the frozen pass looks at."""
        draws = sequences.draws("train")
        t_B = standard_t(draws.noise_B, self._context.train.mask_epsilon)
        return self.fully_masked(sequences, t_B, draws.token_BC)

    def fully_masked(self, sequences: Sequences, t_B: Tensor, uniform_BL: Tensor) -> Batch:
        """The canvases, with the draws that decide once the entropies are known."""
        context = self._context
        # 1. what the frozen student sees: prompts
        end_BL = sequences.masked_ends(context.ends, context.train.mask_epsilon)
        content_BL = sequences.content_BL
        noisy_BL = torch.where(content_BL | end_BL, context.mask_id, sequences.target_BL)
        weight_BL = torch.where(end_BL, context.ends.weight, content_BL.float())
        view = View(noisy_BL, content_BL, weight_BL, sequences.dropout_seeds(0))
        # how many will be masked depends on the entropies; if all are equal, this is their mean
        expected = {"n_masked_content": float((content_BL.sum(1) * t_B).sum())}
        return sequences.batch([view], expected, t_B=t_B, uniform_BL=uniform_BL, hidden_end_BL=end_BL)

    def losses(self, student: TrainedStudent, batch: Batch, totals: Totals) -> Iterator[Loss]:
        """Cross-entropy of what is masked."""
        view = self.learned(student, batch)
        weight_BL = mean_with_ends(batch, view, "n_content", totals)
        if self._variant.compat:
            n_masked = (view.scored_BL & batch.content_BL).sum().clamp(min=1)
            published = totals["n_content"] / (n_masked * totals.n_micro_batches)
            weight_BL = torch.where(batch.content_BL, weight_BL * published, weight_BL)
        yield masked_loss(student, batch, view, weight_BL, totals, self._variant)

    def learned(self, student: TrainedStudent, batch: Batch) -> View:
        """The canvas that is learned from."""
        full, extras, content_BL = batch.view, batch.extras, batch.content_BL
        # 2. how unsure the student is of each token
        with student.frozen():
            (entropy_M,) = student.rows(batch, full, (1.0,)).entropies
        entropy_BL = torch.zeros_like(full.weight_BL).masked_scatter(full.scored_BL, entropy_M)
        # 3. each token's masking probability; published: without the ε that bounds its weight
        t_BL = masking_probability(extras["t_B"], entropy_BL, content_BL, whole=self._variant.compat)
        if not self._variant.compat:
            t_BL = t_BL.clamp(min=self._context.train.mask_epsilon)
        # 4. what the student sees, and how much each masked token counts
        kept_BL = content_BL & (extras["uniform_BL"] < t_BL)
        masked_BL = kept_BL | extras["hidden_end_BL"]
        noisy_BL = torch.where(masked_BL, self._context.mask_id, batch.target_BL)
        weight_BL = torch.where(kept_BL, 1.0 / t_BL, full.weight_BL * ~content_BL)
        return View(noisy_BL, masked_BL, weight_BL, full.dropout_seed)


def masking_probability(t_B: Tensor, entropy_BL: Tensor, content_BL: Tensor, *, whole: bool) -> Tensor:
    """t_i = 1 − (1 − t)^(β_i / β̄), float32 [B, L]; means nothing outside the content.

    Args:
        whole: β̄ is the mean over all sequences instead of each one's own.
    """
    beta_BL = entropy_BL.clamp(min=0.0).sqrt() * content_BL
    sum_B, count_B = beta_BL.sum(1), content_BL.sum(1)
    if whole:
        sum_B, count_B = sum_B.sum().expand_as(sum_B), count_B.sum().expand_as(count_B)
    mean_B1 = (sum_B / count_B.clamp(min=1)).clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    return 1.0 - (1.0 - t_B[:, None]) ** (beta_BL / mean_B1)


def build(variant: GiftVariant, context: Context) -> Gift:
    """The method with a variant's settings."""
    return Gift(variant, context)
