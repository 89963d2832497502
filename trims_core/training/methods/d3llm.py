"""d3LLM (arXiv 2601.07568): a block of an answer is learned from states in which decoding met it.

    block b of length B, all with the same probability;  t ~ U(c, t_max), c grows to t_max over the run
    s = first(b) + ⌊(1−t)·B⌋;  token i of the block is hidden if it was revealed after token number s
    before the block all is visible, behind it all hidden;  the complement hides the block's other tokens
    loss = (CE + CE' + w·H) / 4 for LLaDA,  (CE + CE' + w·(H + H')) / 4 for Dream;  CE, H as in dParallel

A rollout that reveals one token per step has revealed token number s at step s, which is what is published.
Elsewhere (several tokens per step, ends that are no content here) steps are no numbers of tokens: `ordinals`.
t is drawn once per sequence; published: once per micro-batch.

Shape legend: B sequences, L padded length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from trims_core.training.method import Context, Loss
from trims_core.training.methods.blocks import Blocks, certain_losses, complementary, draw_blocks
from trims_core.training.sequences import Batch, Sequences, Totals
from trims_core.training.student import TrainedStudent
from trims_core.variants import D3llmVariant

NEVER: Final = torch.iinfo(torch.int64).max
"""More than any number of tokens or steps."""
_PUBLISHED_BLOCKS = {"llada": (16, 16, 24, 24, 32, 32), "dream": (16, 24, 32)}
_PUBLISHED_WEIGHT = {"llada": 2.0, "dream": 1.0}
_PUBLISHED_VIEWS = {"llada": "first", "dream": "both"}


class D3llm:
    """Masks along the student's own trajectories, and their complement."""

    def __init__(self, variant: D3llmVariant, context: Context) -> None:
        self._variant, self._context = variant, context
        self.n_losses = variant.passes
        self._lengths = variant.block_lengths or _PUBLISHED_BLOCKS[context.family]
        weight, views = variant.entropy_weight, variant.entropy_views or _PUBLISHED_VIEWS[context.family]
        weight = _PUBLISHED_WEIGHT[context.family] if weight is None else weight
        self._entropy_weights = (weight, weight if views == "both" else 0.0)[: self.n_losses]
        self._divisor = 4.0 if variant.complement or variant.compat else 2.0

    def batch(self, sequences: Sequences) -> Batch:
        """A block and a share each, the state that they lead to, and its complement."""
        variant, draws, progress = self._variant, sequences.draws("train"), sequences.progress
        # 1. which block, and which share of it is hidden
        length = None if self._lengths == "whole" else block_length(self._lengths, progress)
        blocks = draw_blocks(sequences, length, draws.cut_B, compat=variant.compat)
        low = variant.mask_ratio_min + (variant.mask_ratio_max - variant.mask_ratio_min) * progress
        ratio_B = low + draws.noise_B.double() * (variant.mask_ratio_max - low)
        # 2. what of it, by trajectory or by draw
        if variant.shift == "random":
            return self.canvases(sequences, blocks, draws.token_BC < ratio_B[:, None])
        ordinal_BL = ordinals(sequences)
        if variant.shift == "permuted":
            ordinal_BL = permuted(ordinal_BL, sequences.content_BL, sequences.draws("permuted").token_BC)
        elif variant.shift:
            ordinal_BL = read_late(ordinal_BL, variant.shift)
        return self.canvases(sequences, blocks, unrevealed(ordinal_BL, sequences, blocks, ratio_B))

    def canvases(self, sequences: Sequences, blocks: Blocks, unrevealed_BL: Tensor) -> Batch:
        """The canvases of these blocks in these states, and what of them is scored."""
        inside_BL, later_BL = blocks.inside(sequences), blocks.later(sequences)
        hidden_BL = inside_BL & unrevealed_BL
        return complementary(sequences, self._context, hidden_BL, inside_BL, later_BL, self.n_losses)

    def losses(self, student: TrainedStudent, batch: Batch, totals: Totals) -> Iterator[Loss]:
        """(CE + w·H) / 4 of each canvas."""
        return certain_losses(student, batch, totals, self._variant, self._entropy_weights, self._divisor)


def block_length(lengths: Sequence[int], progress: float) -> int:
    """The block's length at a share of the run: each takes an equal part, in which it moves to the next."""
    place = progress * len(lengths)
    index = min(int(place), len(lengths) - 1)
    here, following = lengths[index], lengths[min(index + 1, len(lengths) - 1)]
    # 1e-9: 4 steps of 0.1 are a little less than 0.4
    return int(here + (place - index) * (following - here) + 1e-9)


def ordinals(sequences: Sequences) -> Tensor:
    """How many of an answer's tokens were revealed before, int64 [B, L]; NEVER if none was, or no content."""
    known_BL = sequences.content_BL & (sequences.reveal_BL >= 0)
    step_BL = torch.where(known_BL, sequences.reveal_BL.long(), NEVER)
    return torch.where(known_BL, torch.searchsorted(step_BL.sort(1).values, step_BL), NEVER)


def unrevealed(ordinal_BL: Tensor, sequences: Sequences, blocks: Blocks, ratio_B: Tensor) -> Tensor:
    """What is hidden in the state after the answer's token number s, bool [B, L]."""
    length_B = blocks.end_B - blocks.start_B
    state_B = blocks.start_B - sequences.start_B + ((1 - ratio_B.double()) * length_B).long()
    return ordinal_BL > state_B[:, None]


def read_late(ordinal_BL: Tensor, shift: int) -> Tensor:
    """Each position has what belongs to the one `shift` tokens behind it, or was never revealed."""
    late_BL = torch.full_like(ordinal_BL, NEVER)
    late_BL[:, : max(ordinal_BL.shape[1] - shift, 0)] = ordinal_BL[:, shift:]
    return late_BL


def permuted(ordinal_BL: Tensor, content_BL: Tensor, uniform_BL: Tensor) -> Tensor:
    """The same numbers at other positions of the content."""
    # what is before the content and behind it keeps its place
    key_BL = torch.where(content_BL, uniform_BL, 2.0 * content_BL.cumsum(1).gt(0) - 1.0)
    return ordinal_BL.gather(1, key_BL.sort(dim=1, stable=True).indices)


def build(variant: D3llmVariant, context: Context) -> D3llm:
    """The method with a variant's settings."""
    return D3llm(variant, context)
