"""Cross-entropy straight from hidden states: the head over a few rows at a time, its gradient with it.

Shape legend: M masked positions of a micro-batch, R rows of a chunk, D hidden, V vocabulary.

A float32 [M, V] tensor of a 126k vocabulary is larger than the activations of many layers, and autograd
would keep three of them (logits, log-softmax, gradient). Here a chunk's logits become its probabilities and
then its gradient in place, the gradient of the hidden states is kept ([M, D]), and nothing with a V survives
the chunk. Two products with the head per row; chunks recomputed by checkpointing would need three. The
gradient is kept divided by the largest scale: a loss divided by a batch's tokens would vanish in float16
before the loss scaling of mixed precision arrives with the backward pass.

Source: own derivation, ∂(Σ s·CE)/∂logits = s·(softmax − onehot); tests/training/test_head.py compares values
and gradients with the dense formulation.
"""

from __future__ import annotations

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
        chunk = rows or max(1, CHUNK_BYTES // (4 * weight_VD.shape[0]))
        loss, nll_M = _HeadCrossEntropy.apply(
            hidden_MD, weight_VD, head.bias, target_M, scale_M.float(), chunk
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
    ) -> tuple[Tensor, Tensor]:
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        nll_M = torch.empty_like(scale_M)
        largest = scale_M.abs().amax().clamp(min=torch.finfo(torch.float32).tiny) if len(scale_M) else 1.0
        relative_M = scale_M / largest
        grad_hidden_MD = torch.empty_like(hidden_MD) if needs_hidden else None
        # long sums over rows: kept in float32 whatever the head's type
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if needs_weight else None
        grad_bias_V = weight_VD.new_zeros(len(weight_VD), dtype=torch.float32) if needs_bias else None
        for start in range(0, len(hidden_MD), chunk):
            part = slice(start, start + chunk)
            hidden_RD, target_R1 = hidden_MD[part].to(weight_VD.dtype), target_M[part, None]
            logits_RV = functional.linear(hidden_RD, weight_VD, bias_V).float()
            found_R1 = logits_RV.gather(1, target_R1)
            largest_R1 = logits_RV.amax(1, keepdim=True)
            exp_RV = logits_RV.sub_(largest_R1).exp_()
            sum_R1 = exp_RV.sum(1, keepdim=True)
            nll_M[part] = (sum_R1.log() + largest_R1 - found_R1)[:, 0]
            if not any(ctx.needs_input_grad[:3]):
                continue
            scale_R1 = relative_M[part, None]
            grad_RV = exp_RV.mul_(scale_R1 / sum_R1).scatter_add_(1, target_R1, -scale_R1)
            if grad_bias_V is not None:
                grad_bias_V += grad_RV.sum(0)
            grad_RV = grad_RV.to(weight_VD.dtype)
            if grad_hidden_MD is not None:
                grad_hidden_MD[part] = (grad_RV @ weight_VD).to(hidden_MD.dtype)
            if grad_weight_VD is not None:
                grad_weight_VD += grad_RV.T @ hidden_RD
        ctx.save_for_backward(grad_hidden_MD, grad_weight_VD, grad_bias_V)
        ctx.largest, ctx.dtypes = largest, (hidden_MD.dtype, weight_VD.dtype, weight_VD.dtype)
        ctx.mark_non_differentiable(nll_M)
        return (nll_M * scale_M).sum(), nll_M

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        factor = grad.float() * ctx.largest
        kept = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        gradients = [None if part is None else (part.float() * factor).to(dtype) for part, dtype in kept]
        return (*gradients, None, None, None)
