"""Pieces that methods share: how cross-entropies are normalised, and terms made of entropies.

Shape legend: B sequences, L length, M scored positions of a canvas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from trims_core.config import LossNorm
from trims_core.training.method import Context, Loss
from trims_core.training.sequences import Batch, Sequences, Totals, View
from trims_core.training.student import TrainedStudent
from trims_core.variants import VariantConfig

CERTAINTY_TEMPERATURE: Final = 0.5
NEVER: Final = torch.iinfo(torch.int16).max + 1
"""Above all reveal steps."""


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
    content = content_share(totals) / max(totals[counted], 1)
    return view.weight_BL * torch.where(batch.end_BL, 1.0 / max(totals.n_supervised, 1), content)


def plain_view(
    sequences: Sequences,
    context: Context,
    hidden_BL: Tensor,
    scored_BL: Tensor,
    ends_BL: Tensor,
    number: int = 0,
) -> View:
    """A canvas for `mean_with_ends`: what is scored of the content weighs 1, masked ends their own weight.

    Args:
        hidden_BL: content that the student does not see, bool. scored_BL: what of it has a loss.
        ends_BL: masked ends; hidden and scored on every canvas.
        number: of the canvas in its micro-batch.
    """
    noisy_BL = torch.where(hidden_BL | ends_BL, context.mask_id, sequences.target_BL)
    weight_BL = torch.where(ends_BL, context.ends.weight, scored_BL.float())
    return View(noisy_BL, scored_BL | ends_BL, weight_BL, sequences.dropout_seeds(number))


def reveal_steps(sequences: Sequences) -> Tensor:
    """The step that revealed a position, int64 [B, L]; above all steps where none did, or no content is."""
    known_BL = sequences.content_BL & (sequences.reveal_BL >= 0)
    return torch.where(known_BL, sequences.reveal_BL.long(), NEVER)


@dataclass(frozen=True)
class EntropyTerm:
    """What is added to a canvas's loss and made of its predictions' entropies.

    temperature: at which these are taken. of: (entropy_M in nats, right_M) → scalar, normalised.
    """

    name: str
    temperature: float
    of: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class DivergenceTerm:
    """What is added to a canvas's loss and made of divergences from the student without its adapter.

    temperature: of both distributions. of: KL(reference ‖ student) [M], in nats → scalar, normalised.
    """

    name: str
    temperature: float
    of: Callable[[Tensor], Tensor]


def masked_loss(
    student: TrainedStudent,
    batch: Batch,
    view: View,
    weight_BL: Tensor,
    totals: Totals,
    variant: VariantConfig,
    terms: Sequence[EntropyTerm] = (),
    divergence: DivergenceTerm | None = None,
    *,
    soft: bool = False,
) -> Loss:
    """Σ weight·CE over the scored positions of a canvas, a method's own terms, and the certainty term if the
    variant has one: one forward for all of them, and one of the reference where it is asked.

    Args:
        divergence: from the student without its adapter. soft: CE is with its predictions, not with the
            tokens.
    """
    if variant.certainty:
        ramp = min(1.0, batch.progress / variant.certainty_ramp) if variant.certainty_ramp else 1.0
        weight = variant.certainty * ramp
        per_canvas = weight / len(batch.views)
        terms = (*terms, certainty_term("certainty", per_canvas, CERTAINTY_TEMPERATURE, totals))
    if not terms and divergence is None and not soft:
        loss, nll_M = student.cross_entropy(batch, view, weight_BL)
        return Loss(loss, content_and_ends(batch, view, weight_BL, nll_M))
    rows = student.rows(
        batch,
        view,
        [term.temperature for term in terms],
        reference=soft or divergence is not None,
        reference_temperature=1.0 if divergence is None else divergence.temperature,
    )
    cost_M = rows.cross_nats if soft else rows.nll_M
    loss = (weight_BL[view.scored_BL] * cost_M).sum()
    parts = content_and_ends(batch, view, weight_BL, cost_M)
    for term, entropy_M in zip(terms, rows.entropies, strict=True):
        value = term.of(entropy_M, rows.right_M)
        loss, parts[term.name] = loss + value, value.detach()
    if divergence is not None and rows.kl_M is not None:
        value = divergence.of(rows.kl_M)
        loss, parts[divergence.name] = loss + value, value.detach()
    return Loss(loss, parts)


def certainty_term(
    name: str, weight: float, temperature: float, totals: Totals, among_M: Tensor | None = None
) -> EntropyTerm:
    """The weighted certainty term. Which predictions are right is known after the forward only, so the mean
    is that of a micro-batch, and micro-batches weigh the same.

    Args:
        among_M: bool, scored positions that it is about; None: all, ends among them.
    """

    def of(entropy_M: Tensor, right_M: Tensor) -> Tensor:
        counted_M = right_M if among_M is None else right_M & among_M
        return weight * certainty(entropy_M, counted_M) / totals.n_micro_batches

    return EntropyTerm(name, temperature, of)


def content_share(totals: Totals) -> float:
    """The content's share of the supervised tokens: what a method's own terms are scaled by, like its mean
    cross-entropy, so that their published weights hold beside ends. 1 without ends."""
    return totals["n_content"] / max(totals.n_supervised, 1)


def content_certainty(
    weight: float, temperature: float, batch: Batch, view: View, totals: Totals
) -> EntropyTerm:
    """A method's own certainty term: over a canvas's content alone, in the content's share of the loss."""
    among_M = ~batch.end_BL[view.scored_BL]
    return certainty_term("entropy", weight * content_share(totals), temperature, totals, among_M)


def certainty(entropy_M: Tensor, right_M: Tensor) -> Tensor:
    """Mean entropy of the predictions that are right already: scalar, in nats; 0 with zero gradients where
    none is. Source: dParallel (arXiv 2509.26488)."""
    return (entropy_M * right_M).sum() / right_M.sum().clamp(min=1)


def content_and_ends(batch: Batch, view: View, weight_BL: Tensor, nll_M: Tensor) -> dict[str, Tensor]:
    """The two parts of a weighted cross-entropy, without gradient."""
    part_M = (nll_M * weight_BL[view.scored_BL]).detach()
    end_M = batch.end_BL[view.scored_BL]
    return {"content": (part_M * ~end_M).sum(), "ends": (part_M * end_M).sum()}
