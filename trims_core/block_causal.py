"""Block-causal attention: a block sees itself, those before it and the prompt; the prompt sees itself alone.

Source: D2F (arXiv 2508.09192); equal to its program's matrices (tests/training/methods/test_d2f.py).
Shapes: Q positions that see, L positions that are seen, with or without a batch in front.
"""

from __future__ import annotations

from torch import Tensor

PROMPT = -1
"""The block that every position before an answer is in."""


def blocks_at(place: Tensor, block_length: int) -> Tensor:
    """int64, the number of each position's block.

    Args:
        place: int64, counted from the answer's first position; negative before it.
    """
    return place.div(block_length, rounding_mode="floor").clamp(min=PROMPT)


def sees(block_Q: Tensor, block_L: Tensor) -> Tensor:
    """bool [..., Q, L]: whether a position of the first blocks sees one of the second."""
    return block_L[..., None, :] <= block_Q[..., :, None]
