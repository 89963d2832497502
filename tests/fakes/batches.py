"""Micro-batches as a method would have made them: one canvas, content and ends, random weights."""

from __future__ import annotations

import torch
from torch import Tensor

from trims_core.training.sequences import Batch, View

N_ROWS, LENGTH, PROMPT, FIRST_END = 4, 12, 2, 9


def made_up(vocab_size: int, seed: int = 0, n_rows: int = N_ROWS, progress: float = 0.0) -> Batch:
    """Rows of 2 prompt tokens, 7 of an answer and 3 ends; half of the latter two are masked and scored."""
    generator = torch.Generator().manual_seed(seed)
    place_L = torch.arange(LENGTH)
    target_BL = torch.randint(0, vocab_size - 2, (n_rows, LENGTH), generator=generator)
    content_BL = ((place_L >= PROMPT) & (place_L < FIRST_END)).expand(n_rows, -1)
    end_BL = (place_L >= FIRST_END).expand(n_rows, -1)
    masked_BL = (torch.rand(n_rows, LENGTH, generator=generator) < 0.5) & (place_L >= PROMPT)
    weight_BL = torch.rand(n_rows, LENGTH, generator=generator)
    return batch_of(
        target_BL, content_BL, end_BL, masked_BL, weight_BL, mask_id=vocab_size - 1, progress=progress
    )


def batch_of(
    target_BL: Tensor,
    content_BL: Tensor,
    end_BL: Tensor,
    masked_BL: Tensor,
    weight_BL: Tensor,
    *,
    mask_id: int,
    progress: float = 0.0,
) -> Batch:
    """Everything masked is scored, nothing is dead."""
    noisy_BL = torch.where(masked_BL, mask_id, target_BL)
    return Batch(
        target_BL=target_BL,
        content_BL=content_BL,
        end_BL=end_BL,
        attention_BL=None,
        views=(View(noisy_BL, masked_BL, weight_BL, 7),),
        counts={
            "n_content": int(content_BL.sum()),
            "n_ends": int(end_BL.sum()),
            "n_scored": int((masked_BL & content_BL).sum()),
        },
        progress=progress,
        ids=tuple(f"row-{row}" for row in range(len(target_BL))),
    )
