"""Block-causal attention: a block sees itself, those before it and the prompt; the prompt sees itself alone.

Source: D2F (arXiv 2508.09192); equal to its program's matrices (tests/training/methods/test_d2f.py).
Importing this imports no torch.
Shapes: Q positions that see, L positions that are seen, with or without a batch in front.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from trims_core.errors import ConfigError
from trims_core.text_files import object_of

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_CAUSAL: Final = "block_causal_length"
"""What config.json, and an adapter's, calls the length of a block; absent where all positions see all."""
PROMPT: Final = -1
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


def check_exact_cache(model: str, section: str) -> None:
    """Raises ConfigError unless a local student is block-causal; one of the hub is looked at when it decodes.

    Args:
        section: where the cache is chosen, for messages: `rollouts`.
    """
    path = Path(model) / "config.json"
    if path.is_file() and object_of(path, "a student's config.json").get(BLOCK_CAUSAL) is None:
        raise ConfigError(
            f"{section}: cache exact with the untuned student: {model} attends in both directions, so that"
            " every revealed token changes keys and values before it; expected another cache, or a"
            " block-causal student"
        )
