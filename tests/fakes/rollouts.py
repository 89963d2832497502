"""Random rollouts as a method gets them, and tiny students of both families that learn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from fakes.methods import tiny_student
from fakes.objectives import back_through, totals_of
from torch import Tensor

from trims_core.config import TrainConfig
from trims_core.keyed import draw_seed
from trims_core.training.method import Context, Method
from trims_core.training.sequences import Batch, Sequences
from trims_core.variants import EndsConfig

MASK_ID = 63
N_WORDS = 36
"""Tokens of the answers: what the tiny students of both families have below their special ones."""


def rollout_context(family: str = "llada", pads: Any = "hidden", **train: Any) -> Context:
    """What a method is made from for these rollouts."""
    ends = EndsConfig(pads=pads, tokens=8)
    return Context(train=TrainConfig(**train), ends=ends, n_buckets=1, mask_id=MASK_ID, family=family)


def rollout_sequences(
    n_rows: int = 6,
    *,
    tokens_per_step: int = 1,
    never: float = 0.0,
    n_ends: int = 2,
    progress: float = 0.0,
    seed: int = 0,
    references: bool = False,
) -> Sequences:
    """Answers of 5 to 20 tokens behind prompts of 2 to 5, revealed at random; dead columns behind the ends.

    Args:
        never: share of an answer's tokens that were never revealed.
        references: a frozen reference has prompts of 3 to 9 tokens of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    n_prompt_B = torch.randint(2, 6, (n_rows, 1), generator=generator)
    n_content_B = torch.randint(5, 21, (n_rows, 1), generator=generator)
    place_L = torch.arange(int((n_prompt_B + n_content_B).max()) + n_ends + 1)
    content_BL = (place_L >= n_prompt_B) & (place_L < n_prompt_B + n_content_B)
    end_BL = (place_L >= n_prompt_B + n_content_B) & (place_L < n_prompt_B + n_content_B + n_ends)
    reveal_BL = torch.full(content_BL.shape, -1, dtype=torch.int16)
    for row, n_content in enumerate(n_content_B[:, 0].tolist()):
        steps = torch.randperm(n_content, generator=generator) // tokens_per_step
        steps[torch.rand(n_content, generator=generator) < never] = -1
        reveal_BL[row, content_BL[row]] = steps.to(torch.int16)
    names = tuple(f"rollout-{row}" for row in range(n_rows))
    target_BL = torch.randint(0, N_WORDS, content_BL.shape, generator=generator)
    reference_BP = None
    if references:
        reference_BP = torch.randint(0, N_WORDS, (n_rows, 9), generator=generator)
        n_reference_B = torch.randint(3, 10, (n_rows, 1), generator=generator)
        reference_BP = reference_BP.masked_fill(torch.arange(9) >= n_reference_B, -1)
    return Sequences(
        ids=names,
        target_BL=target_BL,
        prompt_BL=place_L < n_prompt_B,
        content_BL=content_BL,
        end_BL=end_BL,
        bucket_BL=torch.ones(content_BL.shape, dtype=torch.uint8),
        reveal_BL=reveal_BL,
        step=0,
        progress=progress,
        seeds=lambda purpose: [draw_seed(0, 0, name, purpose) for name in names],
        dropout_seeds=lambda number: number,
        reference_BP=reference_BP,
    )


def of_each(sequences: Sequences, rows: Sequence[int]) -> Sequences:
    """Some of the sequences, as another micro-batch has them."""
    tensors = ["target_BL", "prompt_BL", "content_BL", "end_BL", "bucket_BL", "reveal_BL"]
    tensors += ["reference_BP"] if sequences.reference_BP is not None else []
    return replace(
        sequences,
        ids=tuple(sequences.ids[row] for row in rows),
        seeds=lambda purpose: [sequences.seeds(purpose)[row] for row in rows],
        **{name: getattr(sequences, name)[list(rows)] for name in tensors},
    )


def positions_of(mask_BL: Tensor) -> list[list[int]]:
    """Where each row is true."""
    return [row.nonzero()[:, 0].tolist() for row in mask_BL]


def check_nothing_to_learn(method: Method, batch: Batch, *, adapted: bool = False) -> None:
    """As many losses as ever, all 0, all gradients 0."""
    student, model = tiny_student("llada", adapted=adapted)
    losses = list(method.losses(student, batch, totals_of([batch])))
    assert len(losses) == method.n_losses
    for loss in losses:
        loss.total.backward()
        assert loss.total.item() == 0.0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(not g.any() for g in gradients)


def check_learns(
    build: Callable[[Context], Method], family: str, parts: set[str], *, adapted: bool = False
) -> None:
    """The loss of a batch falls in a few steps on it, and is the sum of these parts.

    Entropies of right predictions are 0 as long as there are none: the first steps do not count.

    Args:
        adapted: the student has an adapter, and the reference prompts of its own.
    """
    student, model = tiny_student(family, adapted=adapted)
    method = build(replace(rollout_context(family), mask_id=student.mask_id))
    batch = method.batch(rollout_sequences(references=adapted))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    seen = []
    for _ in range(30):
        optimizer.zero_grad()
        total, found = back_through(method.losses(student, batch, totals_of([batch])))
        assert set(found) == parts and total == pytest.approx(sum(found.values()), rel=1e-4)
        seen.append((total, found["content"]))
        optimizer.step()
    assert seen[-1][0] < 0.7 * seen[5][0]
    assert seen[-1][1] < 0.9 * seen[0][1]
