"""Pieces that methods share: how cross-entropies are normalised, and the certainty term.

Shape legend: B sequences, L length, M scored positions of a canvas.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

from trims_core.training.method import Loss
from trims_core.training.rows import Rows
from trims_core.training.sequences import Batch, Totals, View
from trims_core.training.student import TrainedStudent
from trims_core.variants import VariantConfig

LossNorm = Literal["token", "sequence", "batch"]
CERTAINTY_TEMPERATURE: Final = 0.5


def normalise(weight_BL: Tensor, n_supervised_B: Tensor, norm: LossNorm, totals: Totals) -> Tensor:
    """Token weights divided so that the weighted cross-entropies of a *global* batch sum to its loss.

    token: by the maskable tokens of the global batch; sequence: by the sequence's own number of them times
    the sequences; batch: by the sequences. Summed over all micro-batches and ranks; nothing else may divide.
    Source: LLaDA (arXiv 2502.09992) eq. 3 and guidelines; the values equal those of dLLM's MDLM trainer
    (tests/training/test_loss.py).

    Args:
        n_supervised_B: maskable tokens of each sequence, supervised ends among them, dead columns not.
    """
    if norm == "token":
        return weight_BL / max(totals.n_supervised, 1)
    if norm == "sequence":
        return weight_BL / (n_supervised_B.clamp(min=1)[:, None] * totals.n_sequences)
    return weight_BL / totals.n_sequences


def mean_with_ends(batch: Batch, view: View, counted: str, totals: Totals) -> Tensor:
    """Weights [B, L] of a plain mean over scored content, to which ends are added in their own share.

    Content: the method's mean (weights over `totals[counted]`) times the content's share of the supervised
    tokens; ends: their weight over all supervised tokens. So a method that scores few tokens of an answer
    learns no more about ends than one that scores many, and without ends this is the published mean.
    """
    n_supervised = max(totals.n_supervised, 1)
    content = totals["n_content"] / n_supervised / max(totals[counted], 1)
    return view.weight_BL * torch.where(batch.end_BL, 1.0 / n_supervised, content)


def masked_loss(
    student: TrainedStudent,
    batch: Batch,
    view: View,
    weight_BL: Tensor,
    totals: Totals,
    variant: VariantConfig,
) -> Loss:
    """Σ weight·CE over the scored positions of a canvas, and the certainty term if the variant has one."""
    if not variant.certainty:
        loss, nll_M = student.cross_entropy(batch, view, weight_BL)
        return Loss(loss, content_and_ends(batch, view, weight_BL, nll_M))
    rows = student.rows(batch, view, (CERTAINTY_TEMPERATURE,))
    loss = (weight_BL[view.scored_BL] * rows.nll_M).sum()
    parts = content_and_ends(batch, view, weight_BL, rows.nll_M)
    ramp = min(1.0, batch.progress / variant.certainty_ramp) if variant.certainty_ramp else 1.0
    term = variant.certainty * ramp * certainty(rows) / totals.n_micro_batches
    return Loss(loss + term, {**parts, "certainty": term.detach()})


def certainty(rows: Rows) -> Tensor:
    """Mean entropy, at temperature 0.5, of the predictions that are right already: scalar, in nats.

    0 with zero gradients where none is right. Which ones are right is known after the forward only, so the
    mean is that of a micro-batch, and micro-batches weigh the same. Source: dParallel (arXiv 2509.26488).
    """
    entropy_M = rows.entropies[0]
    return (entropy_M * rows.right_M).sum() / rows.right_M.sum().clamp(min=1)


def content_and_ends(batch: Batch, view: View, weight_BL: Tensor, nll_M: Tensor) -> dict[str, Tensor]:
    """The two parts of a weighted cross-entropy, without gradient."""
    part_M = (nll_M * weight_BL[view.scored_BL]).detach()
    end_M = batch.end_BL[view.scored_BL]
    return {"content": (part_M * ~end_M).sum(), "ends": (part_M * end_M).sum()}
