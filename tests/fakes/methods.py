"""Tiny random students of both families."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fakes.dream_checkpoint import write_dream
from fakes.training_student import tiny_family, tiny_model

from trims_core.students import load_student
from trims_core.training.student import Denoiser, TrainedStudent


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
