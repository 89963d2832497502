"""The weighted cross-entropy of hidden states under a head, a few rows at a time; what such a loop needs.

Shape legend: M scored positions of a micro-batch, R rows of a chunk, D hidden, V vocabulary.

A float32 [M, V] tensor of a 126k vocabulary is larger than the activations of many layers, and autograd
would keep three of them (logits, log-softmax, gradient). Here a chunk's logits become its probabilities and
then its gradient in place, the gradient of the hidden states is kept ([M, D]), and nothing with a V survives
the chunk. Two products with the head per row. The gradient is kept divided by the largest scale: a loss
divided by a batch's tokens would vanish in float16 before the loss scaling of mixed precision arrives with
the backward pass. A partitioned head is gathered once, however many rows there are: ranks never wait for
each other.

That needs the weights of the rows beforehand; rows.py serves losses that find them out from predictions.

Source: own derivation, ∂(Σ s·CE)/∂logits = s·(softmax − onehot); tests/training/test_head.py compares values
and gradients with the dense formulation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from trims_core.training.partitions import gathered

CHUNK_BYTES: Final = 256 * 2**20
"""Float32 logits alive at a time: some hundred rows of a 126k vocabulary, enough to fill a matrix unit."""


def head_cross_entropy(
    head: nn.Module, hidden_MD: Tensor, target_M: Tensor, scale_M: Tensor, rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """Σ scale·CE over the rows, float32 scalar (0 with zero gradients where there are no rows), and CE [M].

    Gradients flow from the sum to the hidden states and, where it is trainable, to the head. One derivative
    only; the second result, in nats, has none.

    Args:
        head: a linear layer (weight [V, D], perhaps a bias); gathered once if DeepSpeed has it partitioned.
        rows: chunk size; default: what CHUNK_BYTES of float32 logits hold.
    """
    with gathered(head.parameters()):
        weight_VD: Any = head.weight
        chunk = rows or max(1, CHUNK_BYTES // (4 * len(weight_VD)))
        loss, nll_M = _HeadCrossEntropy.apply(
            hidden_MD, weight_VD, head.bias, target_M, scale_M.float(), chunk, torch.is_grad_enabled()
        )
    return loss, nll_M


class _HeadCrossEntropy(torch.autograd.Function):
    """The gradient for an incoming 1 is computed with the value; the backward pass only scales it."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_MD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        target_M: Tensor,
        scale_M: Tensor,
        chunk: int,
        has_backward: bool,
    ) -> tuple[Tensor, Tensor]:
        needed = ctx.needs_input_grad if has_backward else (False, False, False)
        nll_M = torch.empty_like(scale_M)
        relative_M, ctx.largest = relative_to_largest(scale_M)
        gradients = HeadGradients(needed, hidden_MD, weight_VD)
        for part in parts_of(len(hidden_MD), chunk):
            target_R1 = target_M[part, None]
            logits_RV = head_logits(hidden_MD[part], weight_VD, bias_V)
            found_R1 = logits_RV.gather(1, target_R1)
            largest_R1 = logits_RV.amax(1, keepdim=True)
            exp_RV = logits_RV.sub_(largest_R1).exp_()
            sum_R1 = exp_RV.sum(1, keepdim=True)
            nll_M[part] = (sum_R1.log() + largest_R1 - found_R1)[:, 0]
            if gradients.needed:
                scale_R1 = relative_M[part, None]
                grad_RV = exp_RV.mul_(scale_R1 / sum_R1).scatter_add_(1, target_R1, -scale_R1)
                gradients.add(part, grad_RV)
        ctx.save_for_backward(*gradients.sums)
        ctx.dtypes = gradients.dtypes
        ctx.mark_non_differentiable(nll_M)
        return (nll_M * scale_M).sum(), nll_M

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        factor = grad.float() * ctx.largest
        return (*scaled(ctx.saved_tensors, factor, ctx.dtypes), None, None, None, None)


class HeadGradients:
    """Gradients of hidden states, weight and bias from those of the logits, chunk by chunk.

    Args:
        needed: which of the three are.
    """

    def __init__(self, needed: Sequence[bool], hidden_MD: Tensor, weight_VD: Tensor) -> None:
        self.needed = any(needed[:3])
        self.dtypes = (hidden_MD.dtype, weight_VD.dtype, weight_VD.dtype)
        self._hidden_MD, self._weight_VD = hidden_MD, weight_VD
        # long sums over rows: kept in float32 whatever the head's type
        weight_sum_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if needed[1] else None
        bias_sum_V = weight_VD.new_zeros(len(weight_VD), dtype=torch.float32) if needed[2] else None
        self.sums = (torch.empty_like(hidden_MD) if needed[0] else None, weight_sum_VD, bias_sum_V)

    def add(self, part: slice, grad_RV: Tensor) -> None:
        """A chunk's share; `grad_RV` is float32."""
        weight_VD, (grad_hidden_MD, grad_weight_VD, grad_bias_V) = self._weight_VD, self.sums
        if grad_bias_V is not None:
            grad_bias_V += grad_RV.sum(0)
        grad_RV = grad_RV.to(weight_VD.dtype)
        if grad_hidden_MD is not None:
            grad_hidden_MD[part] = (grad_RV @ weight_VD).to(grad_hidden_MD.dtype)
        if grad_weight_VD is not None:
            grad_weight_VD += grad_RV.T @ self._hidden_MD[part].to(weight_VD.dtype)


def head_logits(hidden_RD: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    """Float32 logits [R, V]."""
    return functional.linear(hidden_RD.to(weight_VD.dtype), weight_VD, bias_V).float()


def parts_of(n_rows: int, chunk: int) -> Iterator[slice]:
    """The chunks."""
    return (slice(start, start + chunk) for start in range(0, n_rows, chunk))


def relative_to_largest(scale: Tensor) -> tuple[Tensor, Tensor]:
    """Scales divided by the largest of them, and that one."""
    largest = scale.abs().amax() if scale.numel() else scale.new_ones(())
    largest = largest.clamp(min=torch.finfo(torch.float32).tiny)
    return scale / largest, largest


def scaled(
    gradients: Sequence[Tensor | None], factor: Tensor, dtypes: Sequence[torch.dtype]
) -> list[Tensor | None]:
    """Gradients times a factor, in the types of what they belong to."""
    kept = zip(gradients, dtypes, strict=True)
    return [None if part is None else (part.float() * factor).to(dtype) for part, dtype in kept]
