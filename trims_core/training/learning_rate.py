"""The learning rate of every step: linear warm-up, then constant, linear to 0, or half a cosine to 0."""

from __future__ import annotations

import math

from trims_core.config import TrainingConfig


def learning_rate(train: TrainingConfig, step: int, n_steps: int) -> float:
    """Of the update after `step` steps (0 at the first, where there is a warm-up)."""
    n_warm = math.ceil(train.warmup_ratio * n_steps)
    if step < n_warm:
        return train.lr * (step / max(1, n_warm))
    if train.scheduler == "constant":
        return train.lr
    if train.scheduler == "linear":
        return train.lr * max(0.0, (n_steps - step) / max(1, n_steps - n_warm))
    progress = (step - n_warm) / max(1, n_steps - n_warm)
    return train.lr * max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
