"""GIFT against the published program's values, and what its masks promise for any draw."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes.methods import Told, falls, passes, tiny_student
from fakes.objectives import (
    LOSS_TOLERANCE,
    back_through,
    cases_of,
    check_gradients,
    context_of,
    positions_of,
    sequences_of,
    student_of,
    totals_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.config import TrainConfig
from trims_core.training.method import Context
from trims_core.training.methods.gift import Gift, masking_probability
from trims_core.variants import EndsConfig, GiftVariant

PUBLISHED = ("gift_llada", "gift_llada_batch2", "gift_dream")
CONTEXT = Context(TrainConfig(), EndsConfig(pads="none", tokens=0), n_buckets=1, mask_id=63, family="llada")


@pytest.fixture(scope="module")
def cases(shared_data):
    return cases_of(shared_data, "lift")


def batch_of(method, case):
    """The case's draws in the place of ours. The program shows pads: they stand with the prompt here."""
    sequences = sequences_of(case["clean_ids"], case["prompt_lengths"])
    content_BL = positions_of(case["response_positions"], sequences.target_BL.shape)
    sequences = replace(sequences, prompt_BL=~content_BL, content_BL=content_BL)
    uniform_BL = torch.from_numpy(case["arrays"]["bernoulli_uniform"])
    return method.fully_masked(sequences, torch.tensor(case["t"]), uniform_BL)


def test_every_published_case_is_looked_at(cases):
    assert {name for name, case in cases.items() if case["method"] == "gift"} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sets_losses_and_gradients_are_the_published_ones(shared_data, cases, name):
    case = cases[name]
    student, model = student_of(shared_data, case)
    method = Gift(GiftVariant(compat=True), context_of(case))
    batch = batch_of(method, case)
    learned = method.learned(student, batch)
    assert learned.noisy_BL.tolist() == case["masked_input"]
    assert torch.equal(learned.scored_BL, positions_of(case["kept_positions"], learned.scored_BL.shape))
    assert int(learned.scored_BL.sum()) == case["denominator"]
    loss, _ = back_through(method.losses(student, batch, totals_of([batch])))
    assert loss == pytest.approx(float(case["loss"]), rel=LOSS_TOLERANCE)
    check_gradients(model, case)


@pytest.mark.parametrize("name", PUBLISHED)
def test_entropies_and_probabilities_are_the_published_ones(shared_data, cases, name):
    case = cases[name]
    student, _ = student_of(shared_data, case)
    batch = batch_of(Gift(GiftVariant(compat=True), context_of(case)), case)
    with student.frozen():
        (entropy_M,) = student.rows(batch, batch.view, (1.0,)).entropies
    at_BL = batch.content_BL
    published_BL = torch.from_numpy(case["arrays"]["entropy_full_mask"])
    torch.testing.assert_close(entropy_M, published_BL[at_BL], rtol=1e-4, atol=1e-5)
    t_BL = masking_probability(batch.extras["t_B"], published_BL, at_BL, whole=True)
    torch.testing.assert_close(
        t_BL[at_BL], torch.from_numpy(case["arrays"]["t_i"])[at_BL], rtol=1e-5, atol=1e-6
    )


@settings(max_examples=60, deadline=None)
@given(st.floats(0.001, 0.999), st.floats(0.001, 5), st.integers(0, 2**31))
def test_surer_tokens_are_masked_less_and_a_token_of_mean_uncertainty_with_t(t, size, seed):
    generator = torch.Generator().manual_seed(seed)
    entropy_BL = torch.rand(2, 9, generator=generator) * size
    content_BL = torch.ones(2, 9, dtype=torch.bool)
    content_BL[1, 4:] = False
    t_BL = masking_probability(torch.tensor([t, t]), entropy_BL, content_BL, whole=False)
    order = entropy_BL[0].argsort()
    assert (t_BL[0, order].diff() >= -1e-6).all()
    beta_C = entropy_BL[1, :4].sqrt()
    expected_C = 1 - (1 - t) ** (beta_C / beta_C.mean())
    torch.testing.assert_close(t_BL[1, :4], expected_C, rtol=1e-4, atol=1e-5)
    same_BL = masking_probability(torch.tensor([t, t]), torch.full((2, 9), size), content_BL, whole=True)
    torch.testing.assert_close(same_BL[content_BL], torch.full((13,), t), rtol=1e-4, atol=1e-5)


def test_a_student_that_is_sure_of_everything_still_has_masks_and_bounded_weights():
    content_BL = torch.ones(1, 5, dtype=torch.bool)
    t_BL = masking_probability(torch.tensor([0.5]), torch.zeros(1, 5), content_BL, whole=False)
    assert torch.equal(t_BL, torch.zeros(1, 5))
    sequences = sequences_of([[1] * 8], [2])
    entropy_BL = torch.tensor([[0.0, 0, 0, 1e-12, 1, 1, 1, 1]])
    for compat, n_masked in ((False, 6), (True, 4)):
        method = Gift(GiftVariant(compat=compat), CONTEXT)
        batch = method.fully_masked(sequences, torch.tensor([0.5]), torch.zeros(1, 8))
        learned = method.learned(Told(entropy_BL=entropy_BL), batch)
        assert learned.scored_BL.sum() in (n_masked, n_masked + 1)
        assert compat or learned.weight_BL.max() == pytest.approx(1000)


def test_the_first_pass_has_neither_dropout_nor_a_graph():
    student, _ = tiny_student("llada")
    method = Gift(GiftVariant(), replace(CONTEXT, mask_id=student.mask_id))
    batch = method.batch(sequences_of([[1, 2, 3, 4, 5, 6]], [2]))
    assert passes(student, method.losses(student, batch, totals_of([batch]))) == [
        (False, False),
        (True, True),
    ]


def test_tokens_weigh_the_same_on_average():
    """Over many draws each token's weight has mean 1, however sure the student is of it."""
    student, _ = tiny_student("dream")
    n_rows = 4000
    sequences = sequences_of([[1, 2, 3, 4, 5, 6]] * n_rows, [2] * n_rows)
    method = Gift(GiftVariant(), replace(CONTEXT, mask_id=student.mask_id, family="dream"))
    t_B = torch.full((n_rows,), 0.5)
    batch = method.fully_masked(sequences, t_B, sequences.draws("train").token_BC)
    learned = method.learned(student, batch)
    torch.testing.assert_close(learned.weight_BL[:, 2:].mean(0), torch.ones(4), rtol=0.1, atol=0)
    assert learned.weight_BL[:, 2:].amax(0).unique().numel() > 1


def test_a_sequence_is_masked_alike_whatever_else_is_in_the_batch():
    rows = [[3] * 20, [4] * 20, [5] * 20]
    together = sequences_of(rows, [3, 8, 5])
    alone = sequences_of(rows[1:2], [8])
    alone = replace(alone, ids=together.ids[1:2], seeds=lambda purpose: together.seeds(purpose)[1:2])
    student, _ = tiny_student("llada")
    method = Gift(GiftVariant(), replace(CONTEXT, mask_id=student.mask_id))
    learned = [method.learned(student, method.batch(one)) for one in (together, alone)]
    assert torch.equal(learned[0].noisy_BL[1], learned[1].noisy_BL[0])
    torch.testing.assert_close(learned[0].weight_BL[1], learned[1].weight_BL[0], rtol=1e-5, atol=0)


def test_the_published_mean_is_that_of_all_sequences_together():
    entropy_BL = torch.tensor([[1.0, 1.0], [4.0, 9.0]])
    content_BL = torch.ones(2, 2, dtype=torch.bool)
    t_B = torch.tensor([0.5, 0.5])
    own_BL, whole_BL = (masking_probability(t_B, entropy_BL, content_BL, whole=one) for one in (False, True))
    torch.testing.assert_close(own_BL, 1 - 0.5 ** torch.tensor([[1, 1], [0.8, 1.2]]))
    torch.testing.assert_close(whole_BL, 1 - 0.5 ** (torch.tensor([[1, 1], [2.0, 3.0]]) / 1.75))


def test_ours_divides_by_the_answers_of_the_global_batch_and_the_published_loss_by_masked_tokens():
    student, _ = tiny_student("llada")
    sequences = sequences_of([[1, 2, 3, 4, 5, 6]], [2])
    loss, published = (
        Gift(GiftVariant(compat=compat), replace(CONTEXT, mask_id=student.mask_id))
        for compat in (False, True)
    )
    batch = loss.fully_masked(sequences, torch.tensor([0.6]), torch.tensor([[0.0, 0, 0, 0, 0.99, 0.99]]))
    totals = replace(totals_of([batch]), n_micro_batches=3)
    values = [next(one.losses(student, batch, totals)).total.item() for one in (loss, published)]
    # 4 tokens of the answer; 2 masked ones, 3 micro-batches
    assert values[0] * 4 == pytest.approx(values[1] * 2 * 3, rel=1e-5)


def test_no_answer_gives_a_loss_of_zero_with_zero_gradients():
    student, model = tiny_student("llada")
    for compat in (False, True):
        method = Gift(GiftVariant(compat=compat), replace(CONTEXT, mask_id=student.mask_id))
        batch = method.batch(sequences_of([[1, 2, 3]], [3]))
        (loss,) = method.losses(student, batch, totals_of([batch]))
        loss.total.backward()
        assert loss.total.item() == 0.0
    assert not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_loss_falls_in_a_few_plain_steps(family):
    assert falls(GiftVariant(), family)


@pytest.mark.parametrize("compat", [False, True])
def test_ends_are_hidden_on_both_canvases_and_paid_by_the_rule(compat):
    student, _ = tiny_student("llada")
    sequences = sequences_of([[1, 2, 3, 4, 5, 9, 9], [1, 2, 3, 9, 0, 0, 0]], [2, 2])
    end_BL = torch.tensor([[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0, 0]], dtype=torch.bool)
    content_BL = torch.tensor([[0, 0, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0, 0]], dtype=torch.bool)
    sequences = replace(sequences, end_BL=end_BL, content_BL=content_BL)
    ends = EndsConfig(pads="hidden", tokens=4, weight=0.5)
    method = Gift(GiftVariant(compat=compat), replace(CONTEXT, mask_id=student.mask_id, ends=ends))
    # the answer's last token stays visible
    uniform_BL = torch.zeros(2, 7)
    uniform_BL[0, 4] = 1.0
    batch = method.fully_masked(sequences, torch.tensor([0.5, 0.5]), uniform_BL)
    learned = method.learned(student, batch)
    for noisy_BL in (batch.view.noisy_BL, learned.noisy_BL):
        assert (noisy_BL[end_BL] == student.mask_id).all()
    assert learned.scored_BL[end_BL].all() and (learned.weight_BL[end_BL] == 0.5).all()
    assert not (learned.scored_BL & ~sequences.attended_BL).any()
    (loss,) = method.losses(student, batch, totals_of([batch]))
    with student.frozen():
        nll_M = student.rows(batch, learned).nll_M
    part_M = nll_M * learned.weight_BL[learned.scored_BL]
    of_end_M = end_BL[learned.scored_BL]
    # 4 tokens of answers, 3 of them masked, 3 ends
    assert loss.parts["ends"].item() == pytest.approx(part_M[of_end_M].sum().item() / 7, rel=1e-5)
    mean = part_M[~of_end_M].sum().item() / (3 if compat else 4)
    assert loss.parts["content"].item() == pytest.approx(mean * 4 / 7, rel=1e-5)
