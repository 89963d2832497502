"""What losses need of predictions, straight from hidden states: the head over a few rows at a time.

Shape legend: M scored positions of a micro-batch, R rows of a chunk, D hidden, V vocabulary.

A float32 [M, V] tensor of a 126k vocabulary is larger than the activations of many layers, and autograd
would keep three of them (logits, log-softmax, gradient). Here a chunk's logits become its probabilities and
then its gradient in place, the gradient of the hidden states is kept ([M, D]), and nothing with a V survives
the chunk. Two products with the head per row. The gradient is kept divided by the largest scale: a loss
divided by a batch's tokens would vanish in float16 before the loss scaling of mixed precision arrives with
the backward pass.

That needs the weights of the rows beforehand. `head_rows` gives each row's own numbers to losses that find
their weights out from them; its backward pass makes the chunks' logits again, a third product. Each of the
two gathers a partitioned head once per pass, however many rows there are: ranks never wait for each other.

Source: own derivation, ∂(Σ s·CE)/∂logits = s·(softmax − onehot); tests/training/test_head.py compares values
and gradients with the dense formulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Rows:
    """What is predicted at each scored position; float32, in nats, all but `right_M` differentiable.

    nll_M: −log p of the target. entropies: of the prediction, one [M] for each temperature asked for. kl_M:
    KL(reference ‖ prediction), or None. right_M: bool, whether the likeliest token is the target.
    """

    nll_M: Tensor
    entropies: tuple[Tensor, ...]
    kl_M: Tensor | None
    right_M: Tensor


def head_rows(
    head: nn.Module,
    hidden_MD: Tensor,
    target_M: Tensor,
    temperatures: Sequence[float] = (),
    reference_MD: Tensor | None = None,
    rows: int | None = None,
) -> Rows:
    """The rows' own numbers; gradients flow to the hidden states and, where it is trainable, to the head.

    Args:
        temperatures: at which entropies are taken.
        reference_MD: hidden states of the distribution that the divergence is from; no gradient to them.
        rows: chunk size; default: what a third of CHUNK_BYTES of float32 logits holds.
    """
    # a partitioned weight that is only looked at outside would be taken for one of the caller's own
    with gathered(head.parameters()):
        weight_VD: Any = head.weight
        chunk = rows or max(1, CHUNK_BYTES // (12 * weight_VD.shape[0]))
        wanted = _Wanted(tuple(temperatures), reference_MD, chunk)
        *found, right_M = _HeadRows.apply(hidden_MD, weight_VD, head.bias, target_M, wanted, head)
    kl_M = found.pop() if reference_MD is not None else None
    return Rows(found[0], tuple(found[1:]), kl_M, right_M)


@dataclass(frozen=True)
class _Wanted:
    temperatures: tuple[float, ...]
    reference_MD: Tensor | None
    chunk: int


def _row_numbers(
    logits_RV: Tensor, target_R: Tensor, temperatures: Sequence[float], reference_RV: Tensor | None
) -> list[Tensor]:
    """[nll_R, entropy_R at each temperature, KL_R if there is a reference] of float32 logits."""
    log_p_RV = logits_RV.log_softmax(1)
    found = [-log_p_RV.gather(1, target_R[:, None])[:, 0]]
    for temperature in temperatures:
        log_q_RV = log_p_RV if temperature == 1.0 else (logits_RV / temperature).log_softmax(1)
        found.append(-(log_q_RV.exp() * log_q_RV).sum(1))
    if reference_RV is not None:
        log_r_RV = reference_RV.log_softmax(1)
        found.append((log_r_RV.exp() * (log_r_RV - log_p_RV)).sum(1))
    return found


class _HeadRows(torch.autograd.Function):
    """Numbers without a graph; the backward pass makes each chunk's graph again and goes back through it."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_MD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        target_M: Tensor,
        wanted: _Wanted,
        head: nn.Module,
    ) -> tuple[Tensor, ...]:
        n_numbers = 1 + len(wanted.temperatures) + (wanted.reference_MD is not None)
        found_MN = hidden_MD.new_empty((len(hidden_MD), n_numbers), dtype=torch.float32)
        right_M = torch.empty(len(hidden_MD), dtype=torch.bool, device=hidden_MD.device)
        for start in range(0, len(hidden_MD), wanted.chunk):
            part = slice(start, start + wanted.chunk)
            logits_RV, reference_RV = _logits(hidden_MD[part], weight_VD, bias_V, wanted, part)
            numbers = _row_numbers(logits_RV, target_M[part], wanted.temperatures, reference_RV)
            found_MN[part] = torch.stack(numbers, dim=1)
            right_M[part] = logits_RV.argmax(1) == target_M[part]
        ctx.save_for_backward(hidden_MD, target_M)
        ctx.wanted, ctx.head = wanted, head
        ctx.mark_non_differentiable(right_M)
        return (*found_MN.unbind(1), right_M)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_MD, target_M = ctx.saved_tensors
        wanted, head = ctx.wanted, ctx.head
        needed = [place for place in range(3) if ctx.needs_input_grad[place]]
        sums: list[Any] = [None, None, None]
        with gathered(head.parameters()):
            sources = (hidden_MD, head.weight, head.bias)
            for place in needed:
                # long sums over rows: kept in float32 whatever the head's type
                sums[place] = torch.zeros_like(sources[place], dtype=None if place == 0 else torch.float32)
            for start in range(0, len(hidden_MD), wanted.chunk):
                part = slice(start, start + wanted.chunk)
                grads_R = [grad[part] for grad in grads[:-1]]
                with torch.enable_grad():
                    leaves: list[Any] = [None if one is None else one.detach() for one in sources]
                    leaves[0] = hidden_MD[part].detach()
                    for place in needed:
                        leaves[place].requires_grad_()
                    logits_RV, reference_RV = _logits(leaves[0], leaves[1], leaves[2], wanted, part)
                    numbers = _row_numbers(logits_RV, target_M[part], wanted.temperatures, reference_RV)
                    found = torch.autograd.grad(numbers, [leaves[place] for place in needed], grads_R)
                for place, gradient in zip(needed, found, strict=True):
                    if place == 0:
                        sums[0][part] = gradient
                    else:
                        sums[place] += gradient
            kept = [None if s is None else s.to(one.dtype) for s, one in zip(sums, sources, strict=True)]
        return (*kept, None, None, None)


def _logits(
    hidden_RD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, wanted: _Wanted, part: slice
) -> tuple[Tensor, Tensor | None]:
    """Float32 logits of a chunk [R, V], and those of the reference."""
    logits_RV = functional.linear(hidden_RD.to(weight_VD.dtype), weight_VD, bias_V).float()
    if wanted.reference_MD is None:
        return logits_RV, None
    with torch.no_grad():
        other_RD = wanted.reference_MD[part].to(weight_VD.dtype)
        return logits_RV, functional.linear(other_RD, weight_VD, bias_V).float()
