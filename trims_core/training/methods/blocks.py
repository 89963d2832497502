"""One block of each answer, as block-wise decoding meets it: visible before it, hidden behind it.

Shape legend: B sequences, L padded length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trims_core.training.sequences import Sequences


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
