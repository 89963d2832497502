"""Tiny random students of both families, and whether a method learns on them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from fakes.dream_checkpoint import write_dream
from fakes.objectives import NO_ENDS, sequences_of, totals_of
from fakes.training_student import tiny_family, tiny_model

from trims_core.config import TrainConfig
from trims_core.students import load_student
from trims_core.training.method import Context, build_method
from trims_core.training.student import Denoiser, TrainedStudent
from trims_core.variants import VariantConfig


def tiny_student(family: str, seed: int = 0) -> tuple[TrainedStudent, Any]:
    """A student with random weights, all of it trainable, and its model."""
    if family == "llada":
        model, own = tiny_model(seed), tiny_family()
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = load_student(str(write_dream(Path(folder), seed)))
        model, own = found.model, found.family
    denoiser = Denoiser(model.requires_grad_(True).train(), own)
    return TrainedStudent(denoiser, denoiser), model


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
