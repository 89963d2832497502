"""The chunked rows against the dense formulation: values, gradients, precision, memory."""

from __future__ import annotations

import weakref

import pytest
import torch
from fakes.heads import gradients, problem, relative
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from trims_core.training.rows import TENSORS_ALIVE, head_rows

TEMPERATURES = (1.0, 0.5, 2.0)


def dense_rows(head, hidden_MD, target_M, temperatures=(), reference_MD=None, reference_temperature=1.0):
    """The same numbers with all logits at once: one [M] each, in the order of `outputs`."""
    logits_MV = head(hidden_MD.to(head.weight.dtype)).float()
    found = [functional.cross_entropy(logits_MV, target_M, reduction="none")]
    found += [
        torch.distributions.Categorical(logits=logits_MV / temperature).entropy()
        for temperature in temperatures
    ]
    if reference_MD is not None:
        with torch.no_grad():
            reference_MV = head(reference_MD.to(head.weight.dtype)).float()
            reference_MV = (reference_MV / reference_temperature).log_softmax(1)
        log_p_MV = (logits_MV / reference_temperature).log_softmax(1)
        found.append(functional.kl_div(log_p_MV, reference_MV, reduction="none", log_target=True).sum(1))
    return found


def outputs(rows):
    return [rows.nll_M, *rows.entropies, *([] if rows.kl_M is None else [rows.kl_M])]


def mixed(numbers, seed=0):
    """A loss in which every row of every number has another weight, some of them negative."""
    generator = torch.Generator().manual_seed(seed)
    return sum((one * torch.randn(one.shape, generator=generator)).sum() for one in numbers)


def other_hidden(hidden_MD):
    generator = torch.Generator().manual_seed(99)
    return torch.randn(hidden_MD.shape, generator=generator).to(hidden_MD.dtype)


@settings(max_examples=40, deadline=None)
@given(
    n_rows=st.integers(1, 40),
    chunk=st.integers(1, 50),
    bias=st.booleans(),
    temperatures=st.lists(st.sampled_from(TEMPERATURES), max_size=3),
    with_reference=st.booleans(),
    reference_temperature=st.sampled_from(TEMPERATURES),
    seed=st.integers(0, 2**31),
)
def test_rows_and_their_gradients_equal_the_dense_ones_for_any_chunk(
    n_rows, chunk, bias, temperatures, with_reference, reference_temperature, seed
):
    head, hidden_MD, target_M, _ = problem(n_rows, bias=bias, seed=seed)
    reference_MD = other_hidden(hidden_MD) if with_reference else None
    tempered = {"reference_temperature": reference_temperature}
    rows = head_rows(head, hidden_MD, target_M, temperatures, reference_MD, chunk, **tempered)
    expected = dense_rows(head, hidden_MD, target_M, temperatures, reference_MD, **tempered)
    for mine, theirs in zip(outputs(rows), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert torch.equal(rows.right_M, head(hidden_MD).argmax(1) == target_M)
    wanted = [hidden_MD, *head.parameters()]
    pairs = zip(
        gradients(mixed(outputs(rows), seed), *wanted), gradients(mixed(expected, seed), *wanted), strict=True
    )
    assert all(relative(mine, theirs) < 1e-4 for mine, theirs in pairs)


@pytest.mark.parametrize("number", range(5))
def test_each_number_has_its_own_gradient(number):
    head, hidden_MD, target_M, _ = problem(bias=True)
    reference_MD = other_hidden(hidden_MD)
    mine = outputs(head_rows(head, hidden_MD, target_M, TEMPERATURES, reference_MD, 5))[number]
    theirs = dense_rows(head, hidden_MD, target_M, TEMPERATURES, reference_MD)[number]
    wanted = [hidden_MD, *head.parameters()]
    pairs = zip(gradients(mixed([mine]), *wanted), gradients(mixed([theirs]), *wanted), strict=True)
    assert all(relative(*pair) < 1e-4 for pair in pairs)


def test_the_divergence_from_a_distribution_itself_is_zero_with_zero_gradients():
    head, hidden_MD, target_M, _ = problem()
    rows = head_rows(head, hidden_MD, target_M, (), hidden_MD.detach(), 5)
    (gradient,) = gradients(rows.kl_M.sum(), hidden_MD)
    torch.testing.assert_close(rows.kl_M, torch.zeros_like(rows.kl_M), atol=1e-5, rtol=0)
    assert gradient.abs().max() < 1e-5


def test_the_cross_entropy_with_the_reference_is_the_dense_one():
    head, hidden_MD, target_M, _ = problem(bias=True)
    reference_MD = other_hidden(hidden_MD)
    rows = head_rows(head, hidden_MD, target_M, (), reference_MD, 5)
    dense_M = functional.cross_entropy(
        head(hidden_MD), head(reference_MD).softmax(1).detach(), reduction="none"
    )
    torch.testing.assert_close(rows.cross_nats, dense_M, rtol=1e-5, atol=1e-5)
    wanted = [hidden_MD, *head.parameters()]
    pairs = zip(
        gradients(mixed([rows.cross_nats]), *wanted), gradients(mixed([dense_M]), *wanted), strict=True
    )
    assert all(relative(*pair) < 1e-4 for pair in pairs)
    assert not rows.reference_entropy_M.requires_grad
    with pytest.raises(ValueError, match="no reference among these rows"):
        _ = head_rows(head, hidden_MD, target_M).cross_nats


def test_rows_of_a_frozen_head_and_of_logits_of_any_size_stay_finite():
    head, hidden_MD, target_M, _ = problem()
    head.requires_grad_(False)
    with torch.no_grad():
        hidden_MD *= 1e4
    rows = head_rows(head, hidden_MD, target_M, TEMPERATURES, other_hidden(hidden_MD))
    mixed(outputs(rows)).backward()
    assert head.weight.grad is None
    assert all(torch.isfinite(one).all() for one in [*outputs(rows), hidden_MD.grad])


def test_rows_without_a_gradient_keep_none():
    head, hidden_MD, target_M, _ = problem()
    with torch.no_grad():
        rows = head_rows(head, hidden_MD, target_M, TEMPERATURES)
    assert not any(one.requires_grad for one in outputs(rows))
    assert not head_rows(head, hidden_MD, target_M).right_M.requires_grad


def test_no_rows_give_zero_gradients_to_hidden_states_and_head():
    head, hidden_MD, target_M, _ = problem(0, bias=True)
    rows = head_rows(head, hidden_MD, target_M, TEMPERATURES, other_hidden(hidden_MD))
    assert [len(one) for one in outputs(rows)] == [0] * 5 and rows.right_M.dtype == torch.bool
    found = gradients(mixed(outputs(rows)), hidden_MD, *head.parameters())
    assert found[0].shape == hidden_MD.shape
    assert all(torch.equal(one, torch.zeros_like(one)) for one in found)


@pytest.mark.parametrize("of_head", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("of_hidden", [torch.bfloat16, torch.float16])
def test_rows_of_half_precision_are_summed_in_float32(of_hidden, of_head):
    head, hidden_MD, target_M, _ = problem(200, bias=True, dtype=of_hidden)
    head.to(of_head)
    found = outputs(head_rows(head, hidden_MD, target_M, TEMPERATURES, other_hidden(hidden_MD), 64))
    expected = dense_rows(head, hidden_MD, target_M, TEMPERATURES, other_hidden(hidden_MD))
    assert all(one.dtype == torch.float32 for one in found)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    wanted = [hidden_MD, *head.parameters()]
    mine = torch.autograd.grad(mixed(found), wanted)
    theirs = torch.autograd.grad(mixed(expected), wanted)
    assert [one.dtype for one in mine] == [one.dtype for one in wanted]
    assert all(relative(one.float(), other.float()) < 0.02 for one, other in zip(mine, theirs, strict=True))


@pytest.mark.parametrize(("of_hidden", "loss_scale"), [(torch.float32, 1.0), (torch.float16, 2.0**16)])
def test_small_weights_of_rows_survive_a_float16_head(of_hidden, loss_scale):
    """An incoming 1e-7 times a probability is below float16's smallest number; what comes of it is not, or is
    not once the loss is scaled."""
    head, hidden_MD, target_M, _ = problem(200, dtype=torch.float16)
    hidden_MD = hidden_MD.detach().to(of_hidden).requires_grad_()
    scale = 1e-7 * loss_scale
    (mine,) = torch.autograd.grad(
        mixed(outputs(head_rows(head, hidden_MD, target_M, TEMPERATURES, None, 64))) * scale, hidden_MD
    )
    exact_MD = hidden_MD.detach().float().requires_grad_()
    exact = dense_rows(head.float(), exact_MD, target_M, TEMPERATURES)
    (theirs,) = torch.autograd.grad(mixed(exact) * scale, exact_MD)
    assert relative(mine.float(), theirs) < 0.01


def test_right_are_the_rows_whose_likeliest_token_is_the_target():
    head, hidden_MD, target_M, _ = problem()
    likeliest_M = head(hidden_MD).argmax(1)
    target_M[::2] = likeliest_M[::2]
    assert torch.equal(head_rows(head, hidden_MD, target_M, rows=5).right_M, likeliest_M == target_M)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_of_a_trained_head_are_summed_in_float32_over_many_chunks(dtype):
    head, hidden_MD, target_M, _ = problem(800, 8, 20, bias=True, dtype=dtype)
    mine = torch.autograd.grad(head_rows(head, hidden_MD, target_M, rows=1).nll_M.sum(), [*head.parameters()])
    exact = nn.Linear(8, 20).requires_grad_()
    exact.load_state_dict({name: value.float() for name, value in head.state_dict().items()})
    nll_M = functional.cross_entropy(exact(hidden_MD.detach().float()), target_M, reduction="none")
    theirs = torch.autograd.grad(nll_M.sum(), [*exact.parameters()])
    assert all(relative(one.float(), other) < 0.006 for one, other in zip(mine, theirs, strict=True))


def test_an_overflow_of_the_loss_scaling_is_seen_in_the_gradients():
    head, hidden_MD, target_M, _ = problem(dtype=torch.float16)
    (gradient,) = gradients(head_rows(head, hidden_MD, target_M).nll_M.sum() * torch.inf, hidden_MD)
    assert not torch.isfinite(gradient).all()


def test_the_backward_pass_goes_by_the_logits_of_the_forward_pass_under_autocast():
    head, hidden_MD, target_M, _ = problem()
    found = []
    for inside in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            loss = mixed(outputs(head_rows(head, hidden_MD, target_M, (0.5,), None, 5)))
            if inside:
                found.append(gradients(loss, hidden_MD, head.weight))
        if not inside:
            found.append(gradients(loss, hidden_MD, head.weight))
    exact = gradients(mixed(dense_rows(head, hidden_MD, target_M, (0.5,))), hidden_MD, head.weight)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert all(1e-4 < relative(one, other) < 0.05 for one, other in zip(found[0], exact, strict=True))


@pytest.mark.parametrize("trained", [False, True])
def test_rows_have_a_few_chunks_alive_however_many_rows_there_are(trained):
    vocab, chunk = 5000, 8
    peaks = []
    for n_rows in (2 * chunk, 10 * chunk):
        head, hidden_MD, target_M, _ = problem(n_rows, 4, vocab)
        head.requires_grad_(trained)
        with Alive(chunk * vocab) as seen:
            found = outputs(head_rows(head, hidden_MD, target_M, (1.0, 0.5), other_hidden(hidden_MD), chunk))
            assert seen.count() == 0
            torch.autograd.grad(mixed(found), hidden_MD)
        assert seen.count() == 0 and seen.largest == chunk * vocab
        peaks.append(seen.peak)
    assert peaks[0] == peaks[1] <= TENSORS_ALIVE


class Alive(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the tensors of at least so many elements that are alive after each operation."""

    def __init__(self, n_elements: int) -> None:
        super().__init__()
        self._n_elements, self._seen = n_elements, []
        self.peak = self.largest = 0

    def count(self) -> int:
        """Memories, not tensors: what is done in place takes none of its own."""
        alive = (reference() for reference in self._seen)
        return len({tensor.data_ptr() for tensor in alive if tensor is not None})

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.numel() >= self._n_elements:
                self._seen.append(weakref.ref(tensor))
                self.largest = max(self.largest, tensor.numel())
        self.peak = max(self.peak, self.count())
        return result
