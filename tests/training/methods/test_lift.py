"""LIFT against the published program's values, and what its masks promise for any draw."""

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
from trims_core.masking import standard_t
from trims_core.training.method import Context, build_method
from trims_core.training.methods.lift import POLICIES, Lift, highest, keep_counts, margins, policies
from trims_core.variants import EndsConfig, LiftVariant, StandardVariant

PUBLISHED = (
    "lift3_high_t_easy_masked",
    "lift3_low_t_hard_masked",
    "lift3_mid_t_vanilla",
    "lift3_t_near_one",
    "lift3_batch2_prompts",
    "lift2_top",
    "lift2_bottom",
    "lift3_tiny_t_keep0",
    "lift3_no_time_scaling",
    "lift3_dream_unshifted",
)
_POLICY = {"vanilla": "vanilla", "topk": "top", "bottomk": "bottom"}


@pytest.fixture(scope="module")
def cases(shared_data):
    return cases_of(shared_data, "lift")


def lift_of(case, **settings):
    found = {"components": case["components"], "divide_by_t": case["time_scaling"], "compat": True}
    return Lift(LiftVariant(**(found | settings)), context_of(case))


def batch_of(method, case):
    """The case's draws in the place of ours; where the program kept any tokens, those it kept."""
    sequences = sequences_of(case["clean_ids"], case["prompt_lengths"])
    shape = sequences.target_BL.shape
    t_B, rho_B = torch.tensor(case["t"]), torch.tensor(case["rho"])
    over_BL = positions_of(case["over_masked_positions"], shape)
    return method.over_masked(
        sequences, t_B, rho_B, over_BL, positions_of(case["kept_positions"], shape).float()
    )


def test_every_published_case_is_looked_at(cases):
    assert {name for name, case in cases.items() if case["method"] == "lift"} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sets_losses_and_gradients_are_the_published_ones(shared_data, cases, name):
    case = cases[name]
    student, model = student_of(shared_data, case)
    method = lift_of(case)
    batch = batch_of(method, case)
    assert batch.view.noisy_BL.tolist() == case["over_masked_input"]
    chosen = {POLICIES[index] for index in batch.extras["policy_B"].tolist()}
    assert chosen == {_POLICY[case["chosen"]]}
    assert batch.extras["keep_B"].tolist() == case["keep_count"]
    learned = method.learned(student, batch)
    assert learned.noisy_BL.tolist() == case["masked_input"]
    assert torch.equal(learned.scored_BL, positions_of(case["kept_positions"], learned.scored_BL.shape))
    shown_BL = batch.view.scored_BL & ~learned.scored_BL
    assert torch.equal(shown_BL, positions_of(case["revealed_positions"], shown_BL.shape))
    totals = totals_of([batch])
    assert totals.n_supervised == case["denominator"]
    loss, _ = back_through(method.losses(student, batch, totals))
    assert loss == pytest.approx(float(case["loss"]), rel=LOSS_TOLERANCE, abs=0)
    check_gradients(model, case)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "vanilla" not in name])
def test_likelihoods_of_the_frozen_pass_are_the_published_ones(shared_data, cases, name):
    case = cases[name]
    student, _ = student_of(shared_data, case)
    batch = batch_of(lift_of(case), case)
    with student.frozen():
        nll_M = student.rows(batch, batch.view).nll_M
    known = [value for row in case["log_p_gold"] for value in row if value is not None]
    torch.testing.assert_close(-nll_M, torch.tensor(known), rtol=2e-5, atol=2e-5)
    assert not nll_M.requires_grad


@pytest.mark.parametrize("name", PUBLISHED)
def test_times_and_margins_follow_from_the_published_draws(cases, name):
    case = cases[name]
    t_draw_B, rho_draw_B = torch.tensor(case["t_draw"]), torch.tensor(case["rho_draw"])
    torch.testing.assert_close(standard_t(t_draw_B, 1e-3), torch.tensor(case["t"]), rtol=1e-6, atol=0)
    torch.testing.assert_close(margins(t_draw_B, rho_draw_B), torch.tensor(case["rho"]), rtol=1e-5, atol=1e-7)


def test_plain_fine_tuning_of_the_same_program_is_our_standard_method(shared_data, cases):
    case = cases["vanilla_sft"]
    student, model = student_of(shared_data, case)
    method = build_method(StandardVariant(loss_weight="inverse_t"), context_of(case))
    sequences = sequences_of(case["clean_ids"], case["prompt_lengths"])
    batch = method.batch(sequences)
    masked_BL = positions_of(case["over_masked_positions"], sequences.target_BL.shape)
    weight_BL = masked_BL / torch.tensor(case["t"])[:, None]
    view = replace(
        batch.view, noisy_BL=torch.tensor(case["over_masked_input"]), scored_BL=masked_BL, weight_BL=weight_BL
    )
    batch = replace(batch, views=(view,))
    loss, _ = back_through(method.losses(student, batch, totals_of([batch])))
    assert loss == pytest.approx(float(case["loss"]), rel=LOSS_TOLERANCE)
    check_gradients(model, case)


def test_ours_keeps_a_token_where_the_published_program_keeps_none(cases, shared_data):
    case = cases["lift3_tiny_t_keep0"]
    student, _ = student_of(shared_data, case)
    method = lift_of(case, compat=False)
    batch = batch_of(method, case)
    learned = method.learned(student, batch)
    hardest = min((value, place) for place, value in enumerate(case["log_p_gold"][0]) if value is not None)[1]
    assert learned.scored_BL.nonzero().tolist() == [[0, hardest]]


def test_ours_reads_dream_where_it_decodes(cases, shared_data):
    case = cases["lift3_dream_unshifted"]
    student, model = student_of(shared_data, case)
    method = lift_of(case, compat=False)
    batch = batch_of(method, case)
    with student.frozen():
        nll_M = student.rows(batch, batch.view).nll_M
    logits_BLV = model(torch.tensor(case["over_masked_input"])).logits
    place = case["over_masked_positions"][0]
    rows = [at - 1 for at in place]
    expected = torch.nn.functional.cross_entropy(
        logits_BLV[0, rows], torch.tensor(case["clean_ids"])[0, place], reduction="none"
    )
    torch.testing.assert_close(nll_M, expected, rtol=1e-4, atol=1e-4)


def test_each_sequence_has_its_own_policy_and_the_published_one_goes_by_their_mean():
    t_B = torch.tensor([0.9, 0.5, 0.1])
    assert [POLICIES[index] for index in policies(t_B, 3)] == ["top", "vanilla", "bottom"]
    assert [POLICIES[index] for index in policies(t_B, 2)] == ["top", "top", "bottom"]
    sequences = sequences_of([[7] * 12] * 3, [2, 2, 2])
    draws = (sequences, t_B, torch.full((3,), 0.1), sequences.content_BL, torch.rand(3, 12))
    ours = Lift(LiftVariant(), CONTEXT).over_masked(*draws)
    published = Lift(LiftVariant(compat=True), CONTEXT).over_masked(*draws)
    assert ours.extras["policy_B"].tolist() == [1, 0, 2]
    assert published.extras["policy_B"].tolist() == [0, 0, 0]


CONTEXT = Context(TrainConfig(), EndsConfig(pads="none", tokens=0), n_buckets=1, mask_id=63, family="llada")


@settings(max_examples=60, deadline=None)
@given(st.floats(0.001, 1.0), st.floats(0, 0.999), st.integers(0, 40), st.integers(0, 2**31))
def test_what_stays_masked_is_ranked_and_counted_as_promised(t, rho_draw, n_over, seed):
    generator = torch.Generator().manual_seed(seed)
    t_B = torch.tensor([t])
    rho_B = margins(t_B, torch.tensor([rho_draw]))
    assert 0 <= rho_B <= 1 - t_B + 1e-6 and (rho_B >= 0.1 - 1e-6 or t_B >= 0.9 - 1e-6)
    over_BL = torch.zeros(1, 50, dtype=torch.bool)
    over_BL[0, torch.randperm(50, generator=generator)[:n_over]] = True
    keep_B = keep_counts(over_BL.sum(1), t_B, rho_B, torch.tensor([True]))
    assert min(n_over, 1) <= keep_B <= n_over
    assert abs(keep_B - n_over * t_B / (t_B + rho_B)) <= (0.5 + 1e-4 if keep_B > 1 else 1)
    # few values, so that many are equal
    score_BL = torch.randint(0, 4, (1, 50), generator=generator).float()
    kept_BL = highest(score_BL, over_BL, keep_B)
    assert kept_BL.sum() == keep_B and not (kept_BL & ~over_BL).any()
    dropped_BL = over_BL & ~kept_BL
    if kept_BL.any() and dropped_BL.any():
        assert score_BL[kept_BL].min() >= score_BL[dropped_BL].max()


def test_hard_tokens_are_context_while_most_is_masked_and_easy_ones_while_little_is():
    """What the method says of itself, on many draws."""
    n_rows = 600
    sequences = sequences_of([[5] * 40] * n_rows, [4] * n_rows)
    method = Lift(LiftVariant(), CONTEXT)
    batch = method.batch(sequences)
    generator = torch.Generator().manual_seed(3)
    log_p_BL = torch.randn(n_rows, 40, generator=generator)
    learned = method.learned(Told(log_p_BL), batch)
    t_B = standard_t(sequences.draws("train").noise_B, 1e-3)
    shown_BL = batch.view.scored_BL & ~learned.scored_BL
    higher = {}
    for name, where_B in {
        "high": t_B > 2 / 3,
        "mid": (t_B > 0.35) & (t_B < 0.65),
        "low": t_B < 1 / 3,
    }.items():
        kept, shown = (log_p_BL[where_B][one[where_B]].mean() for one in (learned.scored_BL, shown_BL))
        higher[name] = float(kept - shown)
    assert higher["high"] > 1 and higher["low"] < -1 and abs(higher["mid"]) < 0.1
    masked_B = learned.scored_BL.sum(1) / 36
    assert (masked_B - t_B).mean().abs() < 0.02
    assert batch.counts["n_masked_content"] == int(learned.scored_BL.sum())


def test_a_sequence_is_masked_alike_whatever_else_is_in_the_batch():
    rows = [[3] * 20, [4] * 20, [5] * 20]
    together = sequences_of(rows, [3, 8, 5])
    alone = sequences_of(rows[1:2], [8])
    alone = replace(alone, ids=together.ids[1:2], seeds=lambda purpose: together.seeds(purpose)[1:2])
    student, _ = tiny_student("llada")
    method = Lift(LiftVariant(), replace(CONTEXT, mask_id=student.mask_id))
    both = [method.batch(together), method.batch(alone)]
    assert torch.equal(both[0].view.noisy_BL[1], both[1].view.noisy_BL[0])
    learned = [method.learned(student, batch) for batch in both]
    assert torch.equal(learned[0].noisy_BL[1], learned[1].noisy_BL[0])
    assert torch.equal(learned[0].weight_BL[1], learned[1].weight_BL[0])


@pytest.mark.parametrize("variant", [LiftVariant(), LiftVariant(compat=True)])
def test_nothing_masked_gives_a_loss_of_zero_with_zero_gradients(variant):
    student, model = tiny_student("llada")
    sequences = sequences_of([[1, 2, 3, 4]], [2])
    method = Lift(variant, replace(CONTEXT, mask_id=student.mask_id))
    none_BL = torch.zeros_like(sequences.content_BL)
    t_B = torch.tensor([0.5])
    batch = method.over_masked(sequences, t_B, t_B / 2, none_BL, none_BL.float())
    (loss,) = method.losses(student, batch, totals_of([batch]))
    loss.total.backward()
    assert loss.total.item() == 0.0
    assert not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


def test_the_first_pass_has_neither_dropout_nor_a_graph():
    student, _ = tiny_student("llada")
    method = Lift(LiftVariant(), replace(CONTEXT, mask_id=student.mask_id))
    batch = method.batch(sequences_of([[1, 2, 3, 4, 5, 6]], [2]))
    assert passes(student, method.losses(student, batch, totals_of([batch]))) == [
        (False, False),
        (True, True),
    ]


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_loss_falls_in_a_few_plain_steps(family):
    assert falls(LiftVariant(), family)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_ends_are_hidden_on_both_canvases_and_paid_by_the_rule(family):
    student, _ = tiny_student(family)
    sequences = sequences_of([[1, 2, 3, 4, 5, 9, 9], [1, 2, 3, 9, 0, 0, 0]], [2, 2])
    end_BL = torch.tensor([[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0, 0]], dtype=torch.bool)
    content_BL = torch.tensor([[0, 0, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0, 0]], dtype=torch.bool)
    sequences = replace(sequences, end_BL=end_BL, content_BL=content_BL)
    ends = EndsConfig(pads="hidden", tokens=4, weight=0.5)
    method = Lift(LiftVariant(), replace(CONTEXT, mask_id=student.mask_id, ends=ends))
    batch = method.batch(sequences)
    learned = method.learned(student, batch)
    for noisy_BL in (batch.view.noisy_BL, learned.noisy_BL):
        assert (noisy_BL[end_BL] == student.mask_id).all()
    assert learned.scored_BL[end_BL].all() and (learned.weight_BL[end_BL] == 0.5).all()
    dead_BL = ~sequences.attended_BL
    assert dead_BL.sum() == 3 and not (learned.scored_BL & dead_BL).any() and batch.attention_BL is not None
    (loss,) = method.losses(student, batch, totals_of([batch]))
    assert loss.parts["ends"] > 0 and loss.parts["content"] > 0
    assert loss.total.item() == pytest.approx(float(sum(loss.parts.values())), rel=1e-5)
