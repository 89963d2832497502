"""A canvas at any moment of its decoding, rebuilt from the forward that revealed each position."""

from __future__ import annotations

from collections.abc import Sequence


def canvas_before(
    token_ids: Sequence[int], reveal_step: Sequence[int], n_forwards: int, mask_id: int
) -> list[int]:
    """The canvas that forward number `n_forwards` (0-based) saw: what the ones before it revealed.

    Args:
        reveal_step: the forward that revealed each position; −1: never.
    """
    return [
        token if 0 <= step < n_forwards else mask_id
        for token, step in zip(token_ids, reveal_step, strict=True)
    ]


def n_steps(reveal_step: Sequence[int]) -> int:
    """Forwards up to the one that revealed the last of these positions."""
    return int(max(reveal_step)) + 1


def moments(n_forwards: int, limit: int) -> list[int]:
    """Numbers of forwards after which a trajectory is looked at: 0, …, n_forwards, evenly spaced, at most
    `limit` (2 or more)."""
    n = min(limit, n_forwards + 1)
    return sorted({(2 * i * n_forwards + n - 1) // (2 * (n - 1)) for i in range(n)})
