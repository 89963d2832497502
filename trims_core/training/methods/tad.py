"""TAD (arXiv 2605.09536): what decoding reveals soon is learned from labels, the rest from a teacher.

    state s ~ U{0 … s_max}, s_max an answer's last step;  visible: tokens revealed before step s
    near: revealed in steps s … s + Δ − 1;  far: masked in state s and not near
    CE = mean −log p over near tokens;  KL = τ²·mean KL(teacher ‖ student) over far tokens, both softened by τ
    loss = λ·CE + λ'·KL
    teacher: the student without its adapter, without gradient; it reads the same answer in the same state
    behind a prompt that also shows the right answer (privileged.py), so far tokens are paired in order

Published, every (rollout, step) is an example and an epoch has all of them. Here a pass over a rollout draws
one of its states, as in the other methods: s_max + 1 epochs are one published epoch, and of rollouts with
unequally many steps each weighs the same.

Shape legend: B sequences, L padded length, M scored positions of a canvas, T padded length of the teacher's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from trims_core.training.method import Context, Loss
from trims_core.training.methods.terms import (
    NEVER,
    DivergenceTerm,
    content_share,
    masked_loss,
    mean_with_ends,
    plain_view,
    reveal_steps,
)
from trims_core.training.sequences import Batch, Sequences, Totals
from trims_core.training.student import TrainedStudent
from trims_core.variants import TadVariant

_PUBLISHED_WINDOW = {"llada": 8, "dream": 6}


class Tad:
    """Answers in one state of their decoding."""

    n_losses = 1

    def __init__(self, variant: TadVariant, context: Context) -> None:
        self._variant, self._context = variant, context
        self._window = variant.window or _PUBLISHED_WINDOW[context.family]

    def batch(self, sequences: Sequences) -> Batch:
        """One state for each answer."""
        return self.canvases(sequences, draw_states(sequences, sequences.draws("train").cut_B))

    def canvases(self, sequences: Sequences, state_B: Tensor) -> Batch:
        """The answers in their states; at −1 all is hidden and nothing has a loss."""
        variant, context, state_B1 = self._variant, self._context, state_B[:, None]
        # 1. what the state hides, and what of it the next steps reveal: bool [B, L]
        step_BL = reveal_steps(sequences)
        hidden_BL = sequences.content_BL & (step_BL >= state_B1)
        soon_BL = step_BL < (state_B1 + self._window).clamp(max=NEVER)
        near_BL = hidden_BL & soon_BL & (state_B1 >= 0)
        far_BL = hidden_BL & ~soon_BL & (state_B1 >= 0) & (variant.kl_weight > 0)
        # 2. what the student reads; far tokens are scored and have no cross-entropy
        ends_BL = sequences.masked_ends(context.ends, context.train.mask_epsilon)
        view = plain_view(sequences, context, hidden_BL, near_BL | far_BL, ends_BL)
        weight_BL = torch.where(near_BL, variant.ce_weight, view.weight_BL.masked_fill(far_BL, 0.0))
        view = replace(view, weight_BL=weight_BL)
        # 3. what the teacher reads [B, T]: another prompt, the same behind it
        if variant.kl_weight:
            view = replace(view, reference=sequences.behind_reference(view, context.pad_id))
        counts = {
            "n_near": int(near_BL.sum()),
            "n_far": int(far_BL.sum()),
            "n_without_state": int((state_B < 0).sum()),
        }
        batch = sequences.batch([view], counts, far_BL=far_BL)
        return self._as_published(batch) if variant.compat else batch

    def losses(self, student: TrainedStudent, batch: Batch, totals: Totals) -> Iterator[Loss]:
        """λ·CE + λ'·KL."""
        variant, view = self._variant, batch.view
        far_M = batch.extras["far_BL"][view.scored_BL]
        weight = variant.kl_weight * variant.temperature**2 * content_share(totals)

        def divergence(kl_M: Tensor) -> Tensor:
            return weight * (kl_M * far_M).sum() / max(totals["n_far"], 1)

        term = DivergenceTerm("kl", variant.temperature, divergence) if variant.kl_weight else None
        weight_BL = mean_with_ends(batch, view, "n_near", totals)
        yield masked_loss(student, batch, view, weight_BL, totals, variant, divergence=term)

    def _as_published(self, batch: Batch) -> Batch:
        """The same with the published attention: Dream attends to all, LLaDA to all that is no pad, revealed
        ends among what it does not see."""

        def attended(noisy_BL: Tensor) -> Tensor | None:
            seen_BL = noisy_BL != self._context.pad_id
            return None if self._context.family == "dream" or bool(seen_BL.all()) else seen_BL.long()

        view, reference = batch.view, batch.view.reference
        if reference is not None:
            reference = replace(reference, attention_BL=attended(reference.noisy_BL))
        views = (replace(view, reference=reference),)
        return replace(batch, views=views, attention_BL=attended(view.noisy_BL))


def draw_states(sequences: Sequences, uniform_B: Tensor) -> Tensor:
    """One of an answer's states, all with the same probability, int64 [B]; −1 where no step revealed any of
    it. State s is the canvas before step s: the last one hides what the last step reveals."""
    step_BL = reveal_steps(sequences)
    last_B = torch.where(step_BL < NEVER, step_BL, -1).amax(1)
    return torch.minimum((uniform_B.double() * (last_B + 1)).long(), last_B)


def build(variant: TadVariant, context: Context) -> Tad:
    """The method with a variant's settings."""
    return Tad(variant, context)
