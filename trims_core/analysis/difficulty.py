"""The teacher's NLL of each token that a student produced, through the bytes both cover.

Alignment is that of the corpus (trims_core/alignment.py), so that the buckets' edges can be applied: the
token that ends an answer takes the end of turn's value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trims_core.alignment import align_rows
from trims_core.analysis.questions import Said
from trims_core.analysis.texts import Shown
from trims_core.ranks import rank_correlation


def difficulty_of(sample: Mapping[str, Any], shown: Shown, said: Said, *, ended: bool) -> list[float | None]:
    """Nats per canvas position; None where the position is none of the answer, or its token has no text.

    Args:
        shown: of the answer's tokens.
        said: of their text.
        ended: whether the last token of the answer is an end.
    """
    n_targets = len(said.nll_T) if ended else said.n_tokens
    places, byte_end = list(shown.places), list(shown.byte_end)
    if ended:
        places.append(sample["n_tokens"] - 1)
        byte_end.append(byte_end[-1] if byte_end else 0)
    found: list[float | None] = [None] * len(sample["token_ids"])
    if not places:
        return found
    aligned = align_rows(
        said.byte_end_T[:n_targets],
        said.nll_T[:n_targets],
        np.array([0, n_targets]),
        np.array(byte_end),
        np.array([0, len(places)]),
        [sample["sample_id"]],
    )
    for place, value in zip(places, aligned.astype(np.float32).tolist(), strict=True):
        found[place] = value
    return found


def order_by(reveal_step: list[int], difficulty: list[float | None]) -> float | None:
    """Rank correlation of the forward that revealed a token with its difficulty, where it has one."""
    pairs = [(step, nats) for step, nats in zip(reveal_step, difficulty, strict=True) if nats is not None]
    return rank_correlation([step for step, _ in pairs], [nats for _, nats in pairs])
