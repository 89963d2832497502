"""TABOM (arXiv 2605.11854): what the student's own decoding revealed next, and surest what it revealed first.

    cut c ~ U{0 … s_max − M + 1}, s_max an answer's last step;  visible: tokens revealed before step c
    CE   = mean −log p over the tokens revealed in steps c … c + M − 1
    rank = mean of max(0, H_i − H_j + γ) over an answer's pairs i, j revealed in steps c … c + W − 1, i at an
           earlier step than j; mean over answers;  H the entropy of a prediction
    loss = CE + λ·rank

Shape legend: B sequences, L padded length, S steps, M scored positions of a canvas, W ranked tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from trims_core.training.method import Context, Loss
from trims_core.training.methods.terms import (
    NEVER,
    EntropyTerm,
    content_share,
    masked_loss,
    mean_with_ends,
    plain_view,
    reveal_steps,
)
from trims_core.training.sequences import Batch, Sequences, Totals
from trims_core.training.student import TrainedStudent
from trims_core.variants import TabomVariant

_PUBLISHED_MARGIN = {"llada": 0.2, "dream": 0.1}


class Tabom:
    """Answers cut at one step of their decoding."""

    n_losses = 1

    def __init__(self, variant: TabomVariant, context: Context) -> None:
        self._variant, self._context = variant, context
        self._margin = _PUBLISHED_MARGIN[context.family] if variant.margin is None else variant.margin

    def batch(self, sequences: Sequences) -> Batch:
        """One cut for each answer."""
        allowed_BS = allowed_cuts(sequences, self._variant)
        return self.canvases(sequences, pick(allowed_BS, sequences.draws("train").cut_B))

    def canvases(self, sequences: Sequences, cut_B: Tensor) -> Batch:
        """The answers at their cuts; at −1 all is hidden and nothing has a loss."""
        variant, step_BL, cut_B1 = self._variant, reveal_steps(sequences), cut_B[:, None]
        # 1. hidden: what the cut had not revealed. Scored: what the window revealed
        hidden_BL = sequences.content_BL & (step_BL >= cut_B1)
        scored_BL = hidden_BL & (cut_B1 >= 0) & (step_BL < cut_B1 + variant.window)
        ends_BL = sequences.masked_ends(self._context.ends, self._context.train.mask_epsilon)
        view = plain_view(sequences, self._context, hidden_BL, scored_BL, ends_BL)
        # 2. ranked: the window's first steps; where they are among the scored positions
        ranked_BL = scored_BL & (step_BL < cut_B1 + variant.rank_window)
        key_BL = published_order(step_BL, ranked_BL) if variant.compat else step_BL
        place_BW, key_BW = packed(ranked_BL, view.scored_BL, key_BL)
        before_BWW = key_BW[:, :, None] < key_BW[:, None, :]
        n_pairs_B = before_BWW.sum((1, 2))
        counts = {
            "n_scored": int(scored_BL.sum()),
            "n_ranked": int((n_pairs_B > 0).sum()),
            "n_without_cut": int((cut_B < 0).sum()),
        }
        extras = {"place_BW": place_BW, "before_BWW": before_BWW, "n_pairs_B": n_pairs_B}
        return sequences.batch([view], counts, **extras)

    def losses(self, student: TrainedStudent, batch: Batch, totals: Totals) -> Iterator[Loss]:
        """CE + λ·rank."""

        def rank(entropy_M: Tensor, _: Tensor) -> Tensor:
            value = rank_loss(entropy_M, **batch.extras, margin=self._margin)
            weight = self._variant.rank_weight * content_share(totals)
            return weight * value / max(totals["n_ranked"], 1)

        terms = [EntropyTerm("rank", 1.0, rank)] if self._variant.rank_weight else []
        weight_BL = mean_with_ends(batch, batch.view, "n_scored", totals)
        yield masked_loss(student, batch, batch.view, weight_BL, totals, self._variant, terms)


def allowed_cuts(sequences: Sequences, variant: TabomVariant) -> Tensor:
    """Which steps an answer may be cut at, bool [B, S].

    The last window ends with the last step; an answer of fewer steps is cut at 0. Published: it ends a step
    earlier, and an answer without room for such a window is left out.
    """
    step_BL = reveal_steps(sequences)
    last_B = torch.where(step_BL < NEVER, step_BL, -1).amax(1)
    limit_B = last_B - variant.window if variant.compat else (last_B - variant.window + 1).clamp(min=0)
    limit_B1 = torch.where(last_B < 0, -1, limit_B)[:, None]
    n_steps = max(int(limit_B1.max()) + 1, 1)
    allowed_BS = torch.arange(n_steps) <= limit_B1
    if variant.cuts == "any":
        return allowed_BS
    # a token revealed before its left neighbour; the first of the answer has none
    jumped_BL = (step_BL < step_BL.roll(1, 1)) & sequences.content_BL.roll(1, 1)
    jumped_BL[:, 0] = False
    column_BL = torch.where(jumped_BL, step_BL, n_steps).clamp(max=n_steps)
    at_BS = torch.zeros(len(step_BL), n_steps + 1, dtype=torch.bool).scatter_(1, column_BL, True)
    return allowed_BS & at_BS[:, :n_steps]


def pick(allowed_BS: Tensor, uniform_B: Tensor) -> Tensor:
    """One of the allowed cuts, all with the same probability, int64 [B]; −1 where there is none."""
    n_allowed_B = allowed_BS.sum(1)
    nth_B = torch.minimum((uniform_B.double() * n_allowed_B).long(), n_allowed_B - 1)
    chosen_BS = allowed_BS & (allowed_BS.cumsum(1) == nth_B[:, None] + 1)
    return torch.where(n_allowed_B > 0, chosen_BS.long().argmax(1), -1)


def published_order(step_BL: Tensor, ranked_BL: Tensor) -> Tensor:
    """Each ranked token's place in its answer's order, int64 [B, L]. Tokens of one step stand as torch's
    unstable sort leaves them, which is another order on other machines."""
    key_BL = torch.zeros_like(step_BL)
    for row, ranked_L in enumerate(ranked_BL):
        position_N = ranked_L.nonzero()[:, 0]
        key_BL[row, position_N[step_BL[row, position_N].argsort()]] = torch.arange(len(position_N))
    return key_BL


def packed(ranked_BL: Tensor, scored_BL: Tensor, key_BL: Tensor) -> tuple[Tensor, Tensor]:
    """The ranked tokens side by side [B, W]: their numbers among the scored positions of all rows, int64, 0
    behind them, and their keys, float32, there NaN: neither before nor behind anything."""
    shape = (len(ranked_BL), int(ranked_BL.sum(1).max()))
    number_BL = scored_BL.flatten().cumsum(0).view_as(scored_BL) - 1
    row_N, column_N = ranked_BL.nonzero(as_tuple=True)
    slot_N = ranked_BL.cumsum(1)[row_N, column_N] - 1
    place_BW, key_BW = torch.zeros(shape, dtype=torch.long), torch.full(shape, torch.nan)
    place_BW[row_N, slot_N] = number_BL[row_N, column_N]
    key_BW[row_N, slot_N] = key_BL[row_N, column_N].float()
    return place_BW, key_BW


def rank_loss(
    entropy_M: Tensor, place_BW: Tensor, before_BWW: Tensor, n_pairs_B: Tensor, margin: float
) -> Tensor:
    """Σ over answers of the mean over their pairs of max(0, H_i − H_j + γ): scalar, in nats."""
    entropy_BW = entropy_M[place_BW]
    term_BWW = (entropy_BW[:, :, None] - entropy_BW[:, None, :] + margin).relu() * before_BWW
    return (term_BWW.sum((1, 2)) / n_pairs_B.clamp(min=1)).sum()


def build(variant: TabomVariant, context: Context) -> Tabom:
    """The method with a variant's settings."""
    return Tabom(variant, context)
