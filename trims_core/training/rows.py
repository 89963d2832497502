"""Numbers of each row of hidden states under a head, for losses that find their weights out from them.

Shape legend: M scored positions of a micro-batch, R rows of a chunk, D hidden, V vocabulary, N numbers.

Nothing with a V survives a chunk of rows: the backward pass makes its logits again, a third product with the
head beside the two of head.py. Each of the two passes gathers a partitioned head once.

Source: own derivation. With p = softmax(logits), q = softmax(logits / T) and its entropy H, reference r:
    ∂nll/∂logits = p − onehot      ∂H/∂logits = −q·(log q + H) / T      ∂KL(r ‖ q)/∂logits = (q − r) / T
tests/training/test_rows.py compares values and gradients with the dense formulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from trims_core.training.head import (
    CHUNK_BYTES,
    HeadGradients,
    head_logits,
    parts_of,
    relative_to_largest,
    scaled,
)
from trims_core.training.partitions import gathered

TENSORS_ALIVE: Final = 6
"""At most so many tensors of a chunk's logits' size are alive at a time."""


@dataclass(frozen=True)
class Rows:
    """What is predicted at each scored position; float32, in nats, differentiable but for the last two.

    nll_M: −log p of the target. entropies: of the prediction, one [M] for each temperature asked for. kl_M:
    KL(reference ‖ prediction), both at the reference's temperature, or None. right_M: bool, whether the
    likeliest token is the target. reference_entropy_M: of the reference's own prediction, without gradient,
    or None.
    """

    nll_M: Tensor
    entropies: tuple[Tensor, ...]
    kl_M: Tensor | None
    right_M: Tensor
    reference_entropy_M: Tensor | None = None

    @property
    def cross_nats(self) -> Tensor:
        """The cross-entropy Σ −r·log p of the prediction with the reference: KL and the reference's entropy.

        Raises: ValueError: no reference was asked for.
        """
        if self.kl_M is None or self.reference_entropy_M is None:
            raise ValueError("no reference among these rows; ask for them with reference=True")
        return self.kl_M + self.reference_entropy_M


def head_rows(
    head: nn.Module,
    hidden_MD: Tensor,
    target_M: Tensor,
    temperatures: Sequence[float] = (),
    reference_MD: Tensor | None = None,
    rows: int | None = None,
    *,
    reference_temperature: float = 1.0,
) -> Rows:
    """The rows' own numbers; gradients flow to the hidden states and, where it is trainable, to the head.

    Args:
        temperatures: at which entropies are taken.
        reference_MD: hidden states of the distribution that the divergence is from; no gradient to them.
        reference_temperature: of both distributions in the divergence.
        rows: chunk size; default: so many that all tensors of a chunk are CHUNK_BYTES.
    """
    with gathered(head.parameters()):
        weight_VD: Any = head.weight
        chunk = rows or max(1, CHUNK_BYTES // (4 * TENSORS_ALIVE * len(weight_VD)))
        wanted = _Wanted(head, tuple(temperatures), reference_MD, reference_temperature, chunk)
        *found, right_M, entropy_M = _HeadRows.apply(hidden_MD, weight_VD, head.bias, target_M, wanted)
    if reference_MD is None:
        return Rows(found[0], tuple(found[1:]), None, right_M)
    return Rows(found[0], tuple(found[1:-1]), found[-1], right_M, entropy_M)


@dataclass(frozen=True)
class _Wanted:
    head: Any
    temperatures: tuple[float, ...]
    reference_MD: Tensor | None
    reference_temperature: float
    chunk: int

    def reference(self, part: slice) -> Tensor | None:
        """Log-probabilities of the reference [R, V]."""
        if self.reference_MD is None:
            return None
        logits_RV = head_logits(self.reference_MD[part], self.head.weight, self.head.bias)
        return _tempered(logits_RV.log_softmax(1), self.reference_temperature)


class _HeadRows(torch.autograd.Function):
    """Numbers without a graph; the backward pass makes each chunk's logits again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_MD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        target_M: Tensor,
        wanted: _Wanted,
    ) -> tuple[Tensor, ...]:
        n_numbers = 1 + len(wanted.temperatures) + (wanted.reference_MD is not None)
        found_NM = hidden_MD.new_empty((n_numbers, len(hidden_MD)), dtype=torch.float32)
        right_M = torch.empty_like(target_M, dtype=torch.bool)
        entropy_M = hidden_MD.new_zeros(len(hidden_MD), dtype=torch.float32)
        for part in parts_of(len(hidden_MD), wanted.chunk):
            logits_RV = head_logits(hidden_MD[part], weight_VD, bias_V)
            right_M[part] = logits_RV.argmax(1) == target_M[part]
            log_p_RV = logits_RV.log_softmax(1)
            del logits_RV
            log_r_RV = wanted.reference(part)
            if log_r_RV is not None:
                entropy_M[part] = _entropy(log_r_RV)[:, 0]
            numbers = _numbers(log_p_RV, log_r_RV, target_M[part, None], wanted)
            found_NM[:, part] = torch.cat(numbers, dim=1).T
        ctx.save_for_backward(hidden_MD, target_M)
        device = hidden_MD.device.type
        precision = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        ctx.wanted, ctx.precision = wanted, precision
        ctx.mark_non_differentiable(right_M, entropy_M)
        return (*found_NM.unbind(0), right_M, entropy_M)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_MD, target_M = ctx.saved_tensors
        wanted, head, (device, dtype, enabled) = ctx.wanted, ctx.wanted.head, ctx.precision
        relative_NM, largest = relative_to_largest(torch.stack(grads[:-2]))
        with gathered(head.parameters()), torch.autocast(device, dtype, enabled):
            gradients = HeadGradients(ctx.needs_input_grad, hidden_MD, head.weight)
            for part in parts_of(len(hidden_MD), wanted.chunk):
                log_p_RV = head_logits(hidden_MD[part], head.weight, head.bias).log_softmax(1)
                log_r_RV, grads_NR1 = wanted.reference(part), relative_NM[:, part, None]
                gradients.add(part, _slopes(log_p_RV, log_r_RV, target_M[part, None], wanted, grads_NR1))
        return (*scaled(gradients.sums, largest, gradients.dtypes), None, None)


def _numbers(log_p_RV: Tensor, log_r_RV: Tensor | None, target_R1: Tensor, wanted: _Wanted) -> list[Tensor]:
    """−log p of the target, the entropies, and the divergence if there is a reference: [R, 1] each."""
    found = [-log_p_RV.gather(1, target_R1)]
    found += [_entropy(_tempered(log_p_RV, temperature)) for temperature in wanted.temperatures]
    if log_r_RV is not None:
        log_q_RV = _tempered(log_p_RV, wanted.reference_temperature)
        found.append((log_r_RV - log_q_RV).mul_(log_r_RV.exp()).sum(1, keepdim=True))
    return found


def _slopes(
    log_p_RV: Tensor,
    log_r_RV: Tensor | None,
    target_R1: Tensor,
    wanted: _Wanted,
    grads_NR1: Tensor,
) -> Tensor:
    """∂(Σ grad·number)/∂logits of `_numbers` [R, V]."""
    nll_R1, *grads_R1 = grads_NR1
    found_RV = log_p_RV.exp().mul_(nll_R1).scatter_add_(1, target_R1, -nll_R1)
    if log_r_RV is not None:
        temperature = wanted.reference_temperature
        slope_RV = _tempered(log_p_RV, temperature).exp().sub_(log_r_RV.exp())
        found_RV += slope_RV.mul_(grads_R1.pop() / temperature)
        del slope_RV
    for temperature, entropy_R1 in zip(wanted.temperatures, grads_R1, strict=True):
        found_RV += _entropy_slope(log_p_RV, temperature).mul_(entropy_R1)
    return found_RV


def _tempered(log_p_RV: Tensor, temperature: float) -> Tensor:
    """Log-probabilities at a temperature."""
    return log_p_RV if temperature == 1.0 else (log_p_RV / temperature).log_softmax(1)


def _entropy(log_q_RV: Tensor) -> Tensor:
    """In nats [R, 1]."""
    return -(log_q_RV.exp().mul_(log_q_RV)).sum(1, keepdim=True)


def _entropy_slope(log_p_RV: Tensor, temperature: float) -> Tensor:
    """∂entropy/∂logits [R, V]."""
    log_q_RV = _tempered(log_p_RV, temperature)
    return (log_q_RV + _entropy(log_q_RV)).mul_(log_q_RV.exp()).div_(-temperature)
