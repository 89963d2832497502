"""Random heads and hidden states, and how far apart two gradients are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def problem(
    n_rows: int = 37,
    n_hidden: int = 24,
    vocab: int = 150,
    *,
    bias: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[nn.Linear, Tensor, Tensor, Tensor]:
    """A head, hidden states [M, D], targets [M] and scales [M]."""
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(n_hidden, vocab, bias=bias).to(dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    hidden_MD = torch.randn(n_rows, n_hidden, generator=generator).to(dtype).requires_grad_()
    target_M = torch.randint(0, vocab, (n_rows,), generator=generator)
    return head, hidden_MD, target_M, torch.rand(n_rows, generator=generator) * 3


def gradients(loss: Any, *tensors: Tensor) -> list[Tensor]:
    """Of the loss by each tensor, float32."""
    return [tensor.float() for tensor in torch.autograd.grad(loss, tensors)]


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    return ((found - expected).norm() / expected.norm()).item()
