"""The chunked head and cross-entropy against the dense formulation: values, gradients, memory."""

from __future__ import annotations

import pytest
import torch
from fakes.heads import gradients, problem, relative
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from trims_core.training.head import head_cross_entropy


def dense(head, hidden_MD, target_M, scale_M):
    """The same sum with all logits at once."""
    nll_M = functional.cross_entropy(head(hidden_MD).float(), target_M, reduction="none")
    return (nll_M * scale_M).sum()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.booleans(), st.integers(0, 2**31))
def test_value_and_every_gradient_equal_the_dense_ones_for_any_chunk(n_rows, rows, bias, seed):
    head, hidden_MD, target_M, scale_M = problem(n_rows, bias=bias, seed=seed)
    wanted = [hidden_MD, *head.parameters()]
    expected = dense(head, hidden_MD, target_M, scale_M)
    found, nll_M = head_cross_entropy(head, hidden_MD, target_M, scale_M, rows)
    assert (nll_M * scale_M).sum().item() == pytest.approx(found.item(), rel=1e-5)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    pairs = zip(gradients(found, *wanted), gradients(expected, *wanted), strict=True)
    assert all(relative(mine, theirs) < 1e-5 for mine, theirs in pairs)


def test_a_frozen_head_gets_no_gradient_and_the_factor_behind_the_loss_arrives():
    head, hidden_MD, target_M, scale_M = problem()
    head.requires_grad_(False)
    (head_cross_entropy(head, hidden_MD, target_M, scale_M, 5)[0] * 4.0).backward()
    (expected,) = gradients(dense(head, hidden_MD, target_M, scale_M) * 4.0, hidden_MD)
    assert head.weight.grad is None
    assert relative(hidden_MD.grad, expected) < 1e-5


def test_logits_of_any_size_stay_finite():
    head, hidden_MD, target_M, scale_M = problem()
    with torch.no_grad():
        hidden_MD *= 1e4
    loss, _ = head_cross_entropy(head, hidden_MD, target_M, scale_M)
    (gradient,) = gradients(loss, hidden_MD)
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    assert loss.item() == pytest.approx(dense(head, hidden_MD, target_M, scale_M).item(), rel=1e-5)


def test_half_precision_logits_are_summed_in_float32():
    head, hidden_MD, target_M, scale_M = problem(400, dtype=torch.bfloat16)
    loss, _ = head_cross_entropy(head, hidden_MD, target_M, scale_M, 64)
    logits_MV = head(hidden_MD).double()
    nll_M = functional.cross_entropy(logits_MV, target_M, reduction="none")
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx((nll_M * scale_M).sum().item(), rel=1e-5)
    (mine,) = gradients(loss, hidden_MD)
    (theirs,) = gradients(dense(head, hidden_MD, target_M, scale_M), hidden_MD)
    assert relative(mine, theirs) < 0.01


def test_small_weights_survive_float16_until_the_loss_scaling_arrives():
    head, hidden_MD, target_M, scale_M = problem(200, dtype=torch.float16)
    small_M = scale_M * 1e-7
    (mine,) = gradients(head_cross_entropy(head, hidden_MD, target_M, small_M, 64)[0] * 2.0**16, hidden_MD)
    theirs = torch.autograd.grad(
        dense(head.float(), exact_MD := hidden_MD.detach().float().requires_grad_(), target_M, small_M),
        exact_MD,
    )[0]
    assert relative(mine, theirs * 2.0**16) < 0.01


def test_no_rows_give_zero_and_zero_gradients():
    head, hidden_MD, target_M, scale_M = problem(0)
    loss, _ = head_cross_entropy(head, hidden_MD, target_M, scale_M)
    (gradient,) = gradients(loss, hidden_MD)
    assert loss.item() == 0.0 and gradient.shape == hidden_MD.shape


def test_no_tensor_of_all_rows_times_the_vocabulary_is_ever_made():
    n_rows, vocab, rows = 64, 5000, 8
    head, hidden_MD, target_M, scale_M = problem(n_rows, 4, vocab)
    head.requires_grad_(False)
    with Largest() as seen:
        head_cross_entropy(head, hidden_MD, target_M, scale_M, rows)[0].backward()
    assert seen.n_elements == rows * vocab
    with Largest() as seen:
        dense(head, hidden_MD, target_M, scale_M).backward()
    assert seen.n_elements == n_rows * vocab


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the largest tensor that any operation gives back (the head's own matrix is smaller here)."""

    def __init__(self) -> None:
        super().__init__()
        self.n_elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            # a view that expands one number over many elements takes no memory
            if isinstance(tensor, torch.Tensor) and 0 not in tensor.stride():
                self.n_elements = max(self.n_elements, tensor.numel())
        return result
