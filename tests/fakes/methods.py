"""Tiny random students of both families, and whether a method learns on them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from fakes.dream_checkpoint import write_dream
from fakes.objectives import NO_ENDS, sequences_of, totals_of
from fakes.training_student import tiny_family, tiny_model
from torch import Tensor

from trims_core.config import LoraSettings, TrainConfig
from trims_core.students import load_student
from trims_core.training.method import Context, Loss, build_method
from trims_core.training.rows import Rows
from trims_core.training.sequences import Batch, View
from trims_core.training.student import Denoiser, TrainedStudent
from trims_core.training.trainable import add_lora
from trims_core.variants import VariantConfig


def tiny_student(family: str, seed: int = 0, *, adapted: bool = False) -> tuple[TrainedStudent, Any]:
    """A student with random weights, all of it trainable, and its model.

    Args:
        adapted: it has a fresh adapter beside.
    """
    if family == "llada":
        model, own = tiny_model(seed), tiny_family()
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = load_student(str(write_dream(Path(folder), seed)))
        model, own = found.model, found.family
    if adapted:
        model = add_lora(model, LoraSettings(r=8, alpha=32, dropout=0.0), "all-linear", 0)
    denoiser = Denoiser(model.requires_grad_(True).train(), own)
    return TrainedStudent(denoiser, denoiser), model


class Told:
    """A student whose predictions are given: −nll of each position, or the entropies at it."""

    def __init__(self, log_p_BL: Tensor | None = None, entropy_BL: Tensor | None = None) -> None:
        self._log_p_BL, self._entropy_BL = log_p_BL, entropy_BL

    def frozen(self) -> AbstractContextManager[None]:
        """As TrainedStudent's."""
        return nullcontext()

    def rows(
        self, batch: Batch, view: View, temperatures: Sequence[float] = (), *, reference: bool = False
    ) -> Rows:
        """As TrainedStudent's."""
        shown_BL = self._log_p_BL if self._entropy_BL is None else self._entropy_BL
        found_M = shown_BL[view.scored_BL]
        return Rows(-found_M, tuple(found_M for _ in temperatures), None, found_M > 0)


def passes(student: TrainedStudent, losses: Iterable[Loss]) -> list[tuple[bool, bool]]:
    """Of each pass of these losses: whether the student was in training, and whether a graph was kept."""
    seen = []
    hook = student._denoiser.register_forward_pre_hook(
        lambda module, _: seen.append((module.model.training, torch.is_grad_enabled()))
    )
    for loss in losses:
        loss.total.backward()
    hook.remove()
    return seen


def falls(variant: VariantConfig, family: str, n_steps: int = 8) -> bool:
    """Whether the loss on four sequences becomes clearly smaller; their draws are the same at each step."""
    student, model = tiny_student(family)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 30, (4, 16), generator=generator)
    context = Context(TrainConfig(), NO_ENDS, n_buckets=1, mask_id=student.mask_id, family=family)
    method = build_method(variant, context)
    batch = method.batch(sequences_of(ids.tolist(), [4, 5, 6, 7]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    values = []
    for _ in range(n_steps):
        value = 0.0
        for loss in method.losses(student, batch, totals_of([batch])):
            loss.total.backward()
            value += loss.total.item()
        optimizer.step()
        optimizer.zero_grad()
        values.append(value)
    return values[-1] < 0.9 * values[0]
