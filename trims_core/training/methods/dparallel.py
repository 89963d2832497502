"""dParallel (arXiv 2509.26488): certainty forced in one block of the student's own right answers.

    block b of an answer, all with the same probability;  tokens before it visible, behind it hidden
    token i of the block is hidden with probability r;  the complement hides the others
    loss = CE + CE' + w·(H + H')
    CE: mean −log p over the block's hidden tokens
    H: mean entropy of softmax(logits / τ) over those of them whose likeliest token is right

Shape legend: B sequences, L padded length.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from trims_core.masking import draw
from trims_core.training.method import Context, Loss
from trims_core.training.methods.blocks import Blocks, certain_losses, complementary, draw_blocks
from trims_core.training.sequences import Batch, Sequences, Totals
from trims_core.training.student import TrainedStudent
from trims_core.variants import DParallelVariant

_RELEASED_BLOCK = {"llada": 32, "dream": None}
_RELEASED_WEIGHT = {"llada": 2.0, "dream": 1.0}


class DParallel:
    """Random masks in a block, and their complement. Reveal steps are not read."""

    def __init__(self, variant: DParallelVariant, context: Context) -> None:
        self._variant, self._context = variant, context
        self.n_losses = variant.passes
        length = _RELEASED_BLOCK[context.family] if variant.block_length is None else variant.block_length
        self._block_length = None if length == "whole" else length
        weight = variant.entropy_weight
        self._entropy_weight = _RELEASED_WEIGHT[context.family] if weight is None else weight

    def batch(self, sequences: Sequences) -> Batch:
        """A block each, its masks, and their complement."""
        draws, compat = sequences.draws("train"), self._variant.compat
        blocks = draw_blocks(sequences, self._block_length, draws.cut_B, compat=compat)
        uniform_BL = draws.token_BC
        if compat:
            # prompts are masked too
            uniform_BL = draw(sequences.seeds("released masks"), sequences.target_BL.shape[1]).token_BC
        return self.canvases(sequences, blocks, uniform_BL)

    def canvases(self, sequences: Sequences, blocks: Blocks, uniform_BL: Tensor) -> Batch:
        """The canvases that follow from the draws, and what of them is scored."""
        # 1. what is hidden whatever was drawn, and what may be
        open_BL, later_BL = blocks.inside(sequences), blocks.later(sequences)
        if self._variant.compat:
            open_BL, later_BL = _released(sequences, blocks)
        # 2. the block's tokens, once these and once those
        hidden_BL = open_BL & (uniform_BL < self._variant.mask_ratio)
        return complementary(sequences, self._context, hidden_BL, open_BL, later_BL, self.n_losses)

    def losses(self, student: TrainedStudent, batch: Batch, totals: Totals) -> Iterator[Loss]:
        """CE + w·H of each canvas."""
        weights = [self._entropy_weight] * self.n_losses
        return certain_losses(student, batch, totals, self._variant, weights)


def _released(sequences: Sequences, blocks: Blocks) -> tuple[Tensor, Tensor]:
    """Where the released program masks, and what it hides behind the blocks: each sequence's turn masks its
    block in *all* sequences and shows again whatever was hidden behind the blocks of those before it."""
    place_L = torch.arange(sequences.target_BL.shape[1])
    covered_L = ((place_L >= blocks.start_B[:, None]) & (place_L < blocks.end_B[:, None])).any(0)
    later_BL = blocks.later(sequences)
    later_BL[:-1] = False
    return covered_L & (sequences.prompt_BL | sequences.content_BL), later_BL


def build(variant: DParallelVariant, context: Context) -> DParallel:
    """The method with a variant's settings."""
    return DParallel(variant, context)
