"""The forwards of one step: what is fed, in which groups, and the hidden states of the candidates.

Sequences that are fed the same number of columns go through the network together. Without a cache that is
the whole batch; with one, sequences at the start of a block (fed whole) and those inside one are apart. In a
block-causal student each fed column sees its block, those before it and the prompt, whatever else is fed.

Shapes: B sequences, Q fed columns, G canvas positions, N candidates of the batch, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from trims_core.block_causal import blocks_at, sees
from trims_core.decoding.caches import CachePolicy, Feed
from trims_core.decoding.canvas import Canvas
from trims_core.decoding.proposals import Progress
from trims_core.decoding.protocol import Denoiser


def candidate_logits(
    student: Denoiser,
    canvas: Canvas,
    progress: Progress,
    candidate_BG: torch.Tensor,
    policy: CachePolicy,
    *,
    looks_back: bool,
    guidance: float,
) -> Callable[[slice], torch.Tensor]:
    """Feed every sequence once; gives back a function from a range of candidates to their logits [n, V].

    Candidates are numbered row by row. The head is only ever applied to candidates.

    Args:
        looks_back: also feed the column that predicts the first one fed, for a family with shifted logits.
        guidance: classifier-free guidance scale; 0 for none.
    """
    lookback = student.family.lookback if looks_back else 0
    number_BG = (candidate_BG.flatten().cumsum(0) - 1).view_as(candidate_BG)
    n_candidates = int(number_BG[-1, -1]) + 1
    hidden_ND: torch.Tensor | None = None
    for feed in _feeds(canvas, policy.feed(progress, candidate_BG), lookback):
        hidden_BQD = _forward(student, canvas, feed)
        wanted_BQ, number_BQ = _fed(candidate_BG, number_BG, canvas, feed)
        if hidden_ND is None:
            hidden_ND = hidden_BQD.new_empty(n_candidates, hidden_BQD.shape[-1])
        hidden_ND[number_BQ[wanted_BQ]] = hidden_BQD[wanted_BQ]
    assert hidden_ND is not None
    if not guidance:
        return lambda chunk: student.head(hidden_ND[chunk])
    free_ND = _without_prompt(student, canvas)[candidate_BG]

    def guided(chunk: slice) -> torch.Tensor:
        free_NV = student.head(free_ND[chunk])
        return free_NV + (guidance + 1) * (student.head(hidden_ND[chunk]) - free_NV)

    return guided


def _feeds(canvas: Canvas, range_B2: torch.Tensor | None, lookback: int) -> list[Feed]:
    """The forwards of this step. A column fed only to predict the next one is revealed: never a candidate."""
    width, device = canvas.ids_BL.shape[1], canvas.ids_BL.device
    if range_B2 is None:
        return [Feed(None, 0, torch.arange(width, device=device).expand(len(canvas), -1))]
    ranges = [
        (0 if start < 0 else start + canvas.prompt_width - lookback, end + canvas.prompt_width)
        for start, end in range_B2.tolist()
    ]
    groups: dict[tuple[int, bool], list[int]] = {}
    for row, (start, end) in enumerate(ranges):
        groups.setdefault((end - start, start == 0), []).append(row)
    feeds: list[Feed] = []
    for (n_fed, _), members in groups.items():
        starts = [ranges[row][0] for row in members]
        columns_BQ = torch.tensor(starts, device=device)[:, None] + torch.arange(n_fed, device=device)
        rows = None if len(members) == len(canvas) else torch.tensor(members, device=device)
        same = starts[0] if len(set(starts)) == 1 else None
        feeds.append(Feed(rows, same, columns_BQ))
    return feeds


def _forward(student: Denoiser, canvas: Canvas, feed: Feed) -> torch.Tensor:
    """hidden_BQD of the fed columns, aligned to what they predict."""
    ids_BL, n_pad_B, mask = canvas.ids_BL, canvas.n_pad_B, canvas.attention_mask_BL
    if feed.rows is not None:
        ids_BL, n_pad_B = ids_BL[feed.rows], n_pad_B[feed.rows]
        mask = None if mask is None else mask[feed.rows]
    position_ids_BQ = (feed.columns_BQ - n_pad_B[:, None]).clamp(min=0)
    length = block_causal_length(student.family)
    if length is not None:
        mask = _seen(canvas, feed, mask, length)
    if canvas.store is not None:
        canvas.store.aim(feed, len(canvas), canvas.ids_BL.shape[1])
    return student.hidden(ids_BL.gather(1, feed.columns_BQ), position_ids_BQ, mask, canvas.store)


def block_causal_length(family: Any) -> int | None:
    """Positions of a block of a block-causal student; None where all see all, which a family need not say."""
    length: int | None = getattr(family, "block_causal_length", None)
    return length


def _seen(canvas: Canvas, feed: Feed, mask_BL: torch.Tensor | None, block_length: int) -> torch.Tensor:
    """bool [B or 1, Q, L]: the columns that each fed one sees in a block-causal student."""
    columns_L = torch.arange(canvas.ids_BL.shape[1], device=canvas.ids_BL.device)
    columns_BQ = feed.columns_BQ if feed.start is None else feed.columns_BQ[:1]
    block_L, block_BQ = (
        blocks_at(columns - canvas.prompt_width, block_length) for columns in (columns_L, columns_BQ)
    )
    seen_BQL = sees(block_BQ, block_L)
    return seen_BQL if mask_BL is None else seen_BQL & mask_BL[:, None]


def _fed(
    candidate_BG: torch.Tensor, number_BG: torch.Tensor, canvas: Canvas, feed: Feed
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which fed columns are candidates, and their numbers."""
    place_BQ = feed.columns_BQ - canvas.prompt_width
    inside_BQ = place_BQ >= 0
    place_BQ = place_BQ.clamp(min=0)
    rows = slice(None) if feed.rows is None else feed.rows
    return candidate_BG[rows].gather(1, place_BQ) & inside_BQ, number_BG[rows].gather(1, place_BQ)


def _without_prompt(student: Denoiser, canvas: Canvas) -> torch.Tensor:
    """hidden_BGD of the canvas with every prompt token masked."""
    ids_BL = canvas.ids_BL.clone()
    ids_BL[:, : canvas.prompt_width] = student.family.mask_id
    columns_BL = torch.arange(ids_BL.shape[1], device=ids_BL.device).expand(len(canvas), -1)
    position_ids_BL = (columns_BL - canvas.n_pad_B[:, None]).clamp(min=0)
    mask, length = canvas.attention_mask_BL, block_causal_length(student.family)
    if length is not None:
        mask = _seen(canvas, Feed(None, 0, columns_BL), mask, length)
    hidden_BLD = student.hidden(ids_BL, position_ids_BL, mask, None)
    return hidden_BLD[:, canvas.prompt_width :]
