"""D2F (arXiv 2508.09192): a block-causal student learns what it says itself where it may see everything.

    n blocks of B tokens in an answer;  p_1 ~ U(p_min, p_max);  p_{b+1} = p_b + U(0,1)·(p_max − p_1)/(n − 1)
    token i of block b is masked with p_b
    student: a block sees itself, the blocks before it and the prompt; the prompt sees itself
    teacher: the student without its adapter, sees the whole of the same noisy sequence
    loss = mean over masked tokens of 1/p_b · Σ_v −q_i(v)·log p_i(v),  q: teacher, p: student

Hard labels (`self_align: false`): −log p_i(x_i) in place of the sum.

Ours, as published with `compat`: n is the answer's own number of blocks (published: that of the micro-batch's
longest answer), and blocks of nothing but ends have no loss (published: an exclusion that is written as a
comparison excludes nothing); they stay hidden from the teacher, whom they would tell the length. Ends are
hidden on every canvas, so that their p is 1.

Shape legend: B sequences, L padded length, N blocks of the longest answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from trims_core.block_causal import PROMPT
from trims_core.training.method import Context, Loss
from trims_core.training.methods.terms import masked_loss, mean_with_ends, plain_view
from trims_core.training.sequences import Batch, Sequences, Totals
from trims_core.training.student import TrainedStudent
from trims_core.variants import D2fVariant


class D2f:
    """One canvas for each answer, all its blocks at once."""

    n_losses = 1

    def __init__(self, variant: D2fVariant, context: Context) -> None:
        self._variant, self._context = variant, context

    def batch(self, sequences: Sequences) -> Batch:
        """Draws shares, and what of each block is masked."""
        draws = sequences.draws("train")
        block_BL = sequences.blocks(self._variant.block_length)
        n_blocks_B = count_blocks(block_BL, sequences.content_BL)
        # 1. a number per block: the one drawn for its first position
        first_BN = sequences.start_B[:, None] + self._variant.block_length * torch.arange(
            int(n_blocks_B.max())
        )
        last = block_BL.shape[1] - 1
        growth_BN = sequences.draws("d2f").token_BC.gather(1, first_BN.clamp(max=last))[:, 1:]
        # 2. each block's share, and what it hides
        ratio_BN = self.ratios(draws.noise_B, growth_BN, n_blocks_B)
        hidden_BL = sequences.content_BL & (draws.token_BC < of_blocks(ratio_BN, block_BL))
        return self.canvases(sequences, ratio_BN, hidden_BL)

    def ratios(self, first_B: Tensor, growth_BN: Tensor, n_blocks_B: Tensor) -> Tensor:
        """float32 [B, N], the masked share of each block.

        Args:
            first_B, growth_BN: uniform numbers; of the first block, and [B, N − 1] of the others.
        """
        low, high = self._variant.noise_min, self._variant.noise_max
        first_B1 = (low + (high - low) * first_B)[:, None]
        n_B = n_blocks_B.max().expand_as(n_blocks_B) if self._variant.compat else n_blocks_B
        step_B1 = (high - first_B1) / (n_B[:, None] - 1).clamp(min=1)
        return torch.cat((first_B1, first_B1 + (growth_BN * step_B1).cumsum(1)), dim=1).clamp(max=1.0)

    def canvases(self, sequences: Sequences, ratio_BN: Tensor, hidden_BL: Tensor) -> Batch:
        """The canvases that follow from the draws.

        Args:
            hidden_BL: masked content, bool.
        """
        context, variant = self._context, self._variant
        block_BL = sequences.blocks(variant.block_length)
        # 1. ends: hidden all the same, learned in blocks that hold content
        ends_BL = sequences.masked_ends(context.ends, context.train.mask_epsilon)
        learned_BL = sequences.end_BL
        if not variant.compat:
            n_blocks_B = count_blocks(block_BL, sequences.content_BL | self._end_of_turn(sequences))
            learned_BL = learned_BL & (block_BL < n_blocks_B[:, None])
        # 2. what the student sees, block by block
        view = plain_view(sequences, context, hidden_BL, hidden_BL, ends_BL)
        scored_BL = hidden_BL | (ends_BL & learned_BL)
        # 3. content weighs 1/p of its block, ends are always hidden: p is 1
        p_BL = of_blocks(ratio_BN, block_BL)
        weight_BL = torch.where(hidden_BL, view.weight_BL / p_BL, view.weight_BL) * scored_BL
        view = replace(view, scored_BL=scored_BL, weight_BL=weight_BL, block_BL=block_BL)
        return sequences.batch([view], {"n_masked": int(hidden_BL.sum()), "n_ends": int(learned_BL.sum())})

    def _end_of_turn(self, sequences: Sequences) -> Tensor:
        """bool [B, L], where it stands among the ends."""
        first_BL = sequences.end_BL & (sequences.end_BL.cumsum(1) == 1)
        return first_BL & self._context.ends.hide_end_of_turn

    def losses(self, student: TrainedStudent, batch: Batch, totals: Totals) -> Iterator[Loss]:
        """Cross-entropy with the teacher, or with the answer."""
        weight_BL = mean_with_ends(batch, batch.view, "n_masked", totals)
        soft = self._variant.self_align
        yield masked_loss(student, batch, batch.view, weight_BL, totals, self._variant, soft=soft)


def count_blocks(block_BL: Tensor, content_BL: Tensor) -> Tensor:
    """int64 [B], blocks that hold content, at least 1."""
    return torch.where(content_BL, block_BL, 0).amax(1) + 1


def of_blocks(ratio_BN: Tensor, block_BL: Tensor) -> Tensor:
    """float32 [B, L], the value of each position's block; 1 outside the content's blocks."""
    inside_BL = (block_BL > PROMPT) & (block_BL < ratio_BN.shape[1])
    return torch.where(inside_BL, ratio_BN.gather(1, block_BL.clamp(0, ratio_BN.shape[1] - 1)), 1.0)


def build(variant: D2fVariant, context: Context) -> D2f:
    """The method with a variant's settings."""
    return D2f(variant, context)
