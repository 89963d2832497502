"""One block of each answer, as block-wise decoding meets it: visible before it, hidden behind it.

What dParallel and d3LLM share: the block, a canvas that hides some of it and one that hides the rest, and the
cross-entropy and certainty of each canvas.

Shape legend: B sequences, L padded length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trims_core.training.method import Context, Loss
from trims_core.training.methods.terms import content_certainty, masked_loss, mean_with_ends, plain_view
from trims_core.training.sequences import Batch, Sequences, Totals
from trims_core.training.student import TrainedStudent
from trims_core.variants import D3llmVariant, DParallelVariant


@dataclass(frozen=True)
class Blocks:
    """Where the blocks begin and end on the canvas (behind their last position), int64."""

    start_B: Tensor
    end_B: Tensor

    def inside(self, sequences: Sequences) -> Tensor:
        """Content of the blocks, bool [B, L]."""
        place_L = torch.arange(sequences.target_BL.shape[1])
        return sequences.content_BL & (place_L >= self.start_B[:, None]) & (place_L < self.end_B[:, None])

    def later(self, sequences: Sequences) -> Tensor:
        """Content behind the blocks, bool [B, L]."""
        return sequences.content_BL & (torch.arange(sequences.target_BL.shape[1]) >= self.end_B[:, None])


def draw_blocks(sequences: Sequences, length: int | None, uniform_B: Tensor, *, compat: bool) -> Blocks:
    """A block of each answer, all with the same probability; the last one is what remains.

    Args:
        length: of a block; None: the whole answer.
        compat: as published: the last block begins where whole ones end, so that it may be empty, and runs to
            the end of the canvas.
    """
    first_B, n_content_B = sequences.start_B, sequences.content_BL.sum(1)
    canvas_end_B = first_B + n_content_B + sequences.end_BL.sum(1)
    if length is None:
        return Blocks(first_B, canvas_end_B if compat else first_B + n_content_B)
    n_blocks_B = n_content_B // length + 1 if compat else (-(-n_content_B // length)).clamp(min=1)
    index_B = torch.minimum((uniform_B.double() * n_blocks_B).long(), n_blocks_B - 1)
    start_B = first_B + index_B * length
    end_B = torch.minimum(start_B + length, first_B + n_content_B)
    if compat:
        end_B = torch.where(index_B == n_blocks_B - 1, canvas_end_B, end_B)
    return Blocks(start_B, end_B)


def complementary(
    sequences: Sequences, context: Context, first_BL: Tensor, open_BL: Tensor, later_BL: Tensor, n_views: int
) -> Batch:
    """A canvas that hides and scores some of the blocks' tokens, and one for the others.

    Args:
        first_BL: the tokens of the first canvas, among open_BL, all that may be hidden.
        later_BL: what is hidden on every canvas, without loss.
    """
    scored = [first_BL, open_BL & ~first_BL][:n_views]
    ends_BL = sequences.masked_ends(context.ends, context.train.mask_epsilon)
    views = [
        plain_view(sequences, context, scored_BL | later_BL, scored_BL, ends_BL, number)
        for number, scored_BL in enumerate(scored)
    ]
    return sequences.batch(views, {f"n_scored_{number}": int(one.sum()) for number, one in enumerate(scored)})


def certain_losses(
    student: TrainedStudent,
    batch: Batch,
    totals: Totals,
    variant: DParallelVariant | D3llmVariant,
    entropy_weights: Sequence[float],
    divisor: float = 1.0,
) -> Iterator[Loss]:
    """(CE + w·H) / divisor of each canvas of `complementary`. Args: entropy_weights: w, one per canvas."""
    for number, (view, weight) in enumerate(zip(batch.views, entropy_weights, strict=True)):
        weight_BL = mean_with_ends(batch, view, f"n_scored_{number}", totals) / divisor
        share = weight / divisor
        own = [content_certainty(share, variant.temperature, batch, view, totals)] if weight else []
        yield masked_loss(student, batch, view, weight_BL, totals, variant, own)
