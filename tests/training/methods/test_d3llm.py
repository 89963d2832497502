"""d3LLM against its published program's sets, losses and gradients, and what its own rules promise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes.objectives import (
    LOSS_TOLERANCE,
    back_through,
    cases_of,
    check_gradients,
    context_of,
    sequences_of,
    student_of,
    totals_of,
)
from fakes.rollouts import (
    check_learns,
    check_nothing_to_learn,
    of_each,
    positions_of,
    rollout_context,
    rollout_sequences,
)

from trims_core.training.methods.blocks import Blocks, draw_blocks
from trims_core.training.methods.d3llm import D3llm, block_length, ordinals, permuted, read_late, unrevealed
from trims_core.variants import D3llmVariant

NAMES = (
    "llada_block32_first",
    "llada_block32_second",
    "llada_block16_inside",
    "llada_progressive_epoch",
    "llada_last_to_canvas_end",
    "llada_template_shift",
    "llada_length_mismatch",
    "llada_no_complement",
    "llada_batch2",
    "dream_block32",
    "dream_last_block",
    "dream_block24_batch2",
    "dream_no_complement",
    "dream_whole_response",
    "dream_naive_random",
)


def sequences_of_case(case):
    """The case's rows; steps that the teacher's canvas does not have are −1."""
    n_positions = len(case["input_ids"][0])
    steps = [
        step[: n_positions - start]
        for step, start in zip(case["reveal_step"], case["prompt_lengths"], strict=True)
    ]
    return sequences_of(case["input_ids"], case["prompt_lengths"], reveal_step=steps)


def blocks_of(case):
    start_B, end_B = torch.tensor(case["segments"]).T
    return Blocks(start_B, end_B)


def unrevealed_of(case, sequences, blocks):
    """What the state of a case's draws hides, by our rules."""
    ratio_B = torch.full((len(case["input_ids"]),), case["mask_ratio"], dtype=torch.float64)
    if case["uniform_draws_rounded"]:
        uniform_BL = torch.ones(sequences.target_BL.shape)
        for row, draws in enumerate(case["uniform_draws_rounded"]):
            uniform_BL[row, blocks.start_B[row] : blocks.end_B[row]] = torch.tensor(draws)
        return uniform_BL < ratio_B[:, None]
    ordinal_BL = read_late(ordinals(sequences), case["teacher_prompt_shorter_by"])
    if case["family"] == "dream":
        # states end in EOS behind the teacher's canvas: visible from the first
        beyond_BL = sequences.content_BL & (sequences.reveal_BL < 0)
        ordinal_BL = torch.where(beyond_BL, 0, ordinal_BL)
    return unrevealed(ordinal_BL, sequences, blocks, ratio_B)


def made(case):
    """A case's method and the batch of its draws."""
    variant = D3llmVariant(
        block_lengths=case["progressive_block_sizes"] if case["blockwise"] else "whole",
        complement=case["complementary"],
        temperature=case["temperature"],
        compat=True,
    )
    method, sequences, blocks = D3llm(variant, context_of(case)), sequences_of_case(case), blocks_of(case)
    return method, method.canvases(sequences, blocks, unrevealed_of(case, sequences, blocks))


def views_of(batch):
    return list(zip(batch.views, ("", "_rev"), strict=False))


@pytest.fixture(params=NAMES)
def case(shared_data, request):
    return cases_of(shared_data, "d3llm")[request.param]


def test_every_case_is_tested(shared_data):
    assert tuple(cases_of(shared_data, "d3llm")) == NAMES


def test_blocks_are_the_published_ones(case):
    # LLaDA's answers are shorter than the canvas, whose rest counts in the last block; Dream's are not
    sequences, blocks = sequences_of_case(case), blocks_of(case)
    length = block_length(
        case["progressive_block_sizes"], (case["epoch"] or 0) / len(case["progressive_block_sizes"])
    )
    assert length == case["block_size"]
    if not case["blockwise"]:
        found = draw_blocks(sequences, None, torch.zeros(1), compat=True)
        assert (
            found.start_B.tolist() == blocks.start_B.tolist()
            and found.end_B.tolist() == blocks.end_B.tolist()
        )
        return
    if case["family"] == "llada":
        place_L = torch.arange(sequences.target_BL.shape[1])
        end_BL = place_L >= torch.tensor(case["full_lengths"])[:, None]
        sequences = replace(sequences, content_BL=sequences.content_BL & ~end_BL, end_BL=end_BL)
    for row, (_, high, answer) in enumerate(case["block_draws"]):
        place_B = torch.full((len(case["block_draws"]),), (answer + 0.5) / (high + 1))
        found = draw_blocks(sequences, case["block_size"], place_B, compat=True)
        assert [found.start_B[row].item(), found.end_B[row].item()] == case["segments"][row]


def test_states_are_the_published_ones(case):
    sequences, blocks = sequences_of_case(case), blocks_of(case)
    if not case["state_index"] or case["uniform_draws_rounded"]:
        pytest.skip("no state: hidden at random")
    hidden_BL = unrevealed_of(case, sequences, blocks)
    for row, (start, end) in enumerate(case["segments"]):
        state = [token == case["mask_id"] for token in case["chosen_state"][row]]
        assert hidden_BL[row, start:end].tolist() == state[start:end]


def test_sets_are_the_published_ones(case):
    _, batch = made(case)
    assert len(batch.views) == 1 + case["complementary"]
    for view, suffix in views_of(batch):
        assert view.noisy_BL.tolist() == case[f"masked_input{suffix}"]
        assert positions_of(view.scored_BL) == case[f"loss_positions{suffix}"]


def test_losses_and_gradients_are_the_published_ones(shared_data, case):
    student, model = student_of(shared_data, case)
    method, batch = made(case)
    losses = list(method.losses(student, batch, totals_of([batch])))
    assert len(losses) == len(batch.views) == method.n_losses
    total = 0.0
    for loss, (view, suffix) in zip(losses, views_of(batch), strict=True):
        value, parts = back_through([loss])
        total += value
        assert 4 * parts["content"] == pytest.approx(case[f"ce{suffix}"], rel=LOSS_TOLERANCE, abs=1e-7)
        if f"entropy{suffix}" in case:
            entropy = 4 * parts["entropy"] / case["entropy_weight"]
            assert entropy == pytest.approx(case[f"entropy{suffix}"], rel=LOSS_TOLERANCE, abs=1e-7)
        else:
            assert "entropy" not in parts
        if f"correct_positions{suffix}" in case:
            right_BL = torch.zeros_like(view.scored_BL)
            right_BL[view.scored_BL] = student.rows(batch, view).right_M
            assert positions_of(right_BL) == case[f"correct_positions{suffix}"]
    assert total == pytest.approx(case["loss"], rel=LOSS_TOLERANCE)
    check_gradients(model, case)


def test_shares_are_uniform_above_a_bound_that_grows(case):
    progress, n_rows = case["global_step"] / case["max_steps"], 400
    low = D3llmVariant().mask_ratio_max * progress
    assert low == pytest.approx(case["mask_ratio_low"]) and case["mask_ratio_high"] == 0.8
    # one block of 20 tokens revealed one by one: what stays hidden says the share
    ids, steps = [list(range(21))] * n_rows, [list(range(20))] * n_rows
    sequences = sequences_of(ids, [1] * n_rows, reveal_step=steps, progress=progress)
    method = D3llm(D3llmVariant(block_lengths=20), rollout_context(pads="none"))
    n_hidden_B = method.batch(sequences).views[0].scored_BL.sum(1)
    assert low * 20 - 2 < n_hidden_B.min() < low * 20 + 1 and n_hidden_B.max() in (14, 15)
    assert n_hidden_B.double().mean() == pytest.approx(10 * (low + 0.8) - 0.5, abs=0.5)


def test_block_lengths_go_from_the_first_to_the_last():
    lengths = (16, 16, 24, 24, 32, 32)
    found = [block_length(lengths, step / 600) for step in range(600)]
    assert found == sorted(found) and found[0] == 16 and found[-1] == 32
    assert [found[100 * epoch] for epoch in range(6)] == list(lengths)
    assert found[150] == 20 and block_length((8,), 0.7) == 8


def test_defaults_are_the_familys(shared_data):
    for family, lengths, weights in (("llada", 16, (2.0, 0.0)), ("dream", 16, (1.0, 1.0))):
        method = D3llm(D3llmVariant(), rollout_context(family))
        assert block_length(method._lengths, 0.0) == lengths and block_length(method._lengths, 0.999) in (
            31,
            32,
        )
        assert method._entropy_weights == weights
    chosen = D3llm(D3llmVariant(entropy_weight=0.5, entropy_views="both"), rollout_context("llada"))
    assert chosen._entropy_weights == (0.5, 0.5)


def test_a_rollout_of_one_token_per_step_is_numbered_by_its_steps():
    sequences = rollout_sequences()
    assert torch.equal(
        ordinals(sequences)[sequences.content_BL], sequences.reveal_BL[sequences.content_BL].long()
    )


def test_tokens_are_numbered_by_those_revealed_before_them():
    sequences = rollout_sequences(tokens_per_step=3, never=0.2)
    for row, found_L in enumerate(ordinals(sequences)):
        steps = sequences.reveal_BL[row, sequences.content_BL[row]].tolist()
        n_positions = len(found_L)
        slow = [sum(0 <= other < step for other in steps) if step >= 0 else n_positions for step in steps]
        assert found_L[sequences.content_BL[row]].tolist() == slow
        assert (found_L[~sequences.content_BL[row]] == n_positions).all()


@pytest.mark.parametrize("shift", [0, 3, "permuted", "random"])
def test_views_complement_each_other_inside_the_block(shift):
    context, sequences = rollout_context(), rollout_sequences(progress=0.3)
    batch = D3llm(D3llmVariant(block_lengths=6, shift=shift), context).batch(sequences)
    first, complement = batch.views
    draws = sequences.draws("train")
    blocks = draw_blocks(sequences, 6, draws.cut_B, compat=False)
    both_BL = first.scored_BL & complement.scored_BL
    assert torch.equal(both_BL, sequences.end_BL)
    scored_BL = (first.scored_BL | complement.scored_BL) & sequences.content_BL
    assert torch.equal(scored_BL, blocks.inside(sequences))
    for view in batch.views:
        hidden_BL = view.scored_BL | blocks.later(sequences)
        assert torch.equal(view.noisy_BL == context.mask_id, hidden_BL)
        assert (view.noisy_BL == sequences.target_BL)[~hidden_BL].all()


def test_inside_the_block_only_what_was_revealed_early_enough_is_visible():
    context, sequences = rollout_context(), rollout_sequences(tokens_per_step=2, never=0.1)
    view = D3llm(D3llmVariant(block_lengths="whole"), context).batch(sequences).view
    for row in range(len(sequences.ids)):
        content_L = sequences.content_BL[row]
        steps, hidden = sequences.reveal_BL[row, content_L], view.scored_BL[row, content_L]
        shown = steps[~hidden]
        assert (shown >= 0).all() and hidden[steps < 0].all()
        late = steps[hidden & (steps >= 0)]
        assert not len(late) or not len(shown) or shown.max() < late.min()


def test_steps_may_be_read_late_or_shuffled_inside_the_answer():
    sequences = rollout_sequences()
    ordinal_BL = ordinals(sequences)
    n_positions = ordinal_BL.shape[1]
    late_BL = read_late(ordinal_BL, 10)
    assert torch.equal(late_BL[:, :-10], ordinal_BL[:, 10:]) and (late_BL[:, -10:] == n_positions).all()
    assert torch.equal(read_late(ordinal_BL, 0), ordinal_BL)
    assert (read_late(ordinal_BL, n_positions + 5) == n_positions).all()
    uniform_BL = sequences.draws("permuted").token_BC
    mixed_BL = permuted(ordinal_BL, sequences.content_BL, uniform_BL)
    assert torch.equal(mixed_BL[~sequences.content_BL], ordinal_BL[~sequences.content_BL])
    assert not torch.equal(mixed_BL, ordinal_BL)
    for row, content_L in enumerate(sequences.content_BL):
        assert sorted(mixed_BL[row, content_L].tolist()) == sorted(ordinal_BL[row, content_L].tolist())


def test_each_shift_hides_other_tokens():
    sequences = rollout_sequences(n_rows=30)
    canvases = [
        D3llm(D3llmVariant(block_lengths="whole", shift=shift), rollout_context())
        .batch(sequences)
        .view.noisy_BL
        for shift in (0, 10, "permuted", "random")
    ]
    assert all(not torch.equal(one, other) for n, one in enumerate(canvases) for other in canvases[n + 1 :])


def test_without_the_complement_half_as_much_divides(shared_data):
    case = cases_of(shared_data, "d3llm")["llada_no_complement"]
    student, _ = student_of(shared_data, case)
    _, batch = made(case)
    method = D3llm(D3llmVariant(complement=False), context_of(case))
    total, _ = back_through(method.losses(student, batch, totals_of([batch])))
    assert total == pytest.approx(2 * case["loss"], rel=LOSS_TOLERANCE)
    assert method.n_losses == D3llmVariant(complement=False).passes == 1 and D3llmVariant().passes == 2


def test_a_batch_without_loss_takes_part():
    sequences = rollout_sequences(n_ends=0)
    nothing = replace(sequences, content_BL=torch.zeros_like(sequences.content_BL))
    method = D3llm(D3llmVariant(certainty=1.0), rollout_context())
    check_nothing_to_learn(method, method.batch(nothing))


@pytest.mark.parametrize("shift", [0, "permuted", "random"])
def test_draws_do_not_depend_on_batch_mates(shift):
    sequences = rollout_sequences()
    method = D3llm(D3llmVariant(block_lengths=8, shift=shift), rollout_context())
    together, alone = method.batch(sequences), method.batch(of_each(sequences, [2]))
    for several, one in zip(together.views, alone.views, strict=True):
        assert torch.equal(several.noisy_BL[2:3], one.noisy_BL)
        assert torch.equal(several.scored_BL[2:3], one.scored_BL)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_loss_falls_in_a_few_steps(family):
    variant = D3llmVariant(block_lengths=8, certainty=0.1, certainty_ramp=0.0)
    check_learns(lambda context: D3llm(variant, context), family, {"content", "ends", "entropy", "certainty"})
