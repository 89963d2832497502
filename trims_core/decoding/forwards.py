"""The forwards of one step: what is fed, in which groups, and the hidden states of the candidates.

Sequences that are fed the same number of columns go through the network together. Without a cache that is
the whole batch; with one, sequences at the start of a block (fed whole) and those inside one are apart.

Shapes: B sequences, Q fed columns, G canvas positions, N candidates of the batch, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

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
    for feed in _feeds(canvas, progress, policy, lookback):
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


def _feeds(canvas: Canvas, progress: Progress, policy: CachePolicy, lookback: int) -> list[Feed]:
    """The forwards of this step. A column fed only to predict the next one is revealed: never a candidate."""
    width, device = canvas.ids_BL.shape[1], canvas.ids_BL.device
    all_columns = torch.arange(width, device=device)
    range_B2 = policy.feed(progress.block_range_B2, canvas.gen_length)
    if range_B2 is None:
        return [Feed(None, 0, all_columns.expand(len(canvas), -1))]
    warm = (progress.block_step_B == 0).tolist()
    ranges = (range_B2 + canvas.prompt_width).tolist()
    groups: dict[tuple[int, bool], list[int]] = {}
    for row, (start, end) in enumerate(ranges):
        groups.setdefault((width, True) if warm[row] else (end - start, False), []).append(row)
    feeds: list[Feed] = []
    for (length, whole), members in groups.items():
        starts = [0 if whole else ranges[row][0] - lookback for row in members]
        n_fed = length if whole else length + lookback
        columns_BQ = torch.tensor(starts, device=device)[:, None] + torch.arange(n_fed, device=device)
        rows = None if len(members) == len(canvas) else torch.tensor(members, device=device)
        same = starts[0] if len(set(starts)) == 1 else None
        feeds.append(Feed(rows, same, columns_BQ))
    return feeds


def _forward(student: Denoiser, canvas: Canvas, feed: Feed) -> torch.Tensor:
    """hidden_BQD of the fed columns, aligned to what they predict."""
    ids_BL, n_pad_B, mask_BL = canvas.ids_BL, canvas.n_pad_B, canvas.attention_mask_BL
    if feed.rows is not None:
        ids_BL, n_pad_B = ids_BL[feed.rows], n_pad_B[feed.rows]
        mask_BL = None if mask_BL is None else mask_BL[feed.rows]
    position_ids_BQ = (feed.columns_BQ - n_pad_B[:, None]).clamp(min=0)
    if canvas.store is not None:
        canvas.store.aim(feed, len(canvas), canvas.ids_BL.shape[1])
    return student.hidden(ids_BL.gather(1, feed.columns_BQ), position_ids_BQ, mask_BL, canvas.store)


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
    columns_L = torch.arange(ids_BL.shape[1], device=ids_BL.device)
    position_ids_BL = (columns_L - canvas.n_pad_B[:, None]).clamp(min=0)
    hidden_BLD = student.hidden(ids_BL, position_ids_BL, canvas.attention_mask_BL, None)
    return hidden_BLD[:, canvas.prompt_width :]
