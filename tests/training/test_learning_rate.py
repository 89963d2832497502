"""The learning rate of every step is that of transformers' schedules."""

from __future__ import annotations

import math

import pytest
import torch
from fakes.training_student import tiny_train
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from trims_core.training.learning_rate import learning_rate

LR = 3e-4


def reference(scheduler, n_steps, n_warm):
    """The learning rates that transformers gives."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    if scheduler == "constant":
        schedule = get_constant_schedule_with_warmup(optimizer, n_warm)
    elif scheduler == "linear":
        schedule = get_linear_schedule_with_warmup(optimizer, n_warm, n_steps)
    else:
        schedule = get_cosine_schedule_with_warmup(optimizer, n_warm, n_steps)
    found = []
    for _ in range(n_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(
    ("n_steps", "warmup"), [(1, 0.0), (1, 1.0), (6, 0.2), (7, 0.5), (100, 0.03), (100, 1.0), (333, 0.1)]
)
def test_all_steps_are_those_of_transformers(scheduler, n_steps, warmup):
    train = tiny_train(scheduler=scheduler, lr=LR, warmup_ratio=warmup)
    found = [learning_rate(train, step, n_steps) for step in range(n_steps)]
    assert found == pytest.approx(reference(scheduler, n_steps, math.ceil(warmup * n_steps)), rel=1e-12)


def test_the_first_step_of_a_warm_up_moves_nothing_and_the_peak_is_reached():
    train = tiny_train(lr=LR, warmup_ratio=0.25)
    found = [learning_rate(train, step, 8) for step in range(8)]
    assert found[0] == 0.0 and found[2] == LR == max(found) and found[7] < 0.1 * LR
