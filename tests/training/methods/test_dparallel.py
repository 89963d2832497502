"""dParallel against its released program's sets, losses and gradients, and what its own rules promise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes.methods import tiny_student
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
from trims_core.training.methods.dparallel import DParallel
from trims_core.training.methods.terms import content_share
from trims_core.variants import DParallelVariant

NAMES = (
    "llada_block32_middle",
    "llada_last_is_remainder",
    "llada_empty_block",
    "llada_no_argmax_right",
    "llada_pure_eos_block",
    "llada_batch2_equal_prompts",
    "llada_batch2_unequal",
    "llada_one_short_block",
    "dream_whole_response",
    "dream_no_argmax_right",
    "dream_eos_pads",
    "dream_batch2",
)


def variant_of(case, **changes):
    length = case["block_length"] if "block_length" in case else case["block_size"]
    return DParallelVariant(block_length=length or "whole", compat=True, **changes)


def blocks_of(case, sequences, compat=True):
    """The blocks of a case's draws, by our rule for drawing them."""
    draws = case["block_draws"] or [[0, 0, 0]] * len(case["input_ids"])
    place_B = torch.tensor([(answer + 0.5) / (high + 1) for _, high, answer in draws])
    return draw_blocks(sequences, case["block_size"], place_B, compat=compat)


def uniforms_of(case, blocks):
    """The case's draws by position; what a later sequence's turn draws is what stays."""
    uniform_BL = torch.ones(len(case["input_ids"]), len(case["input_ids"][0]))
    for turn, start, end in zip(
        case["uniform_draws_rounded"], blocks.start_B.tolist(), blocks.end_B.tolist(), strict=True
    ):
        uniform_BL[:, start:end] = torch.tensor(turn).view(len(turn), end - start)
    return uniform_BL


def made(case, **changes):
    """A case's method and the batch of its draws."""
    sequences = sequences_of(case["input_ids"], case["prompt_lengths"])
    method = DParallel(variant_of(case, **changes), context_of(case))
    blocks = blocks_of(case, sequences)
    return method, method.canvases(sequences, blocks, uniforms_of(case, blocks))


@pytest.fixture(params=NAMES)
def case(shared_data, request):
    return cases_of(shared_data, "dparallel")[request.param]


def test_every_case_is_tested(shared_data):
    assert tuple(cases_of(shared_data, "dparallel")) == NAMES


def test_blocks_are_the_released_ones(case):
    sequences = sequences_of(case["input_ids"], case["prompt_lengths"])
    blocks = blocks_of(case, sequences)
    assert [blocks.start_B[-1].item(), blocks.end_B[-1].item()] == case["segment"]
    for row, (low, high, answer) in enumerate(case["block_draws"]):
        seen = set()
        for place in torch.linspace(0, 0.999, 200):
            start_B = draw_blocks(
                sequences, case["block_size"], place.expand(len(case["input_ids"])), compat=True
            ).start_B
            seen.add((start_B[row].item() - case["prompt_lengths"][row]) // case["block_size"])
        assert seen == set(range(low, high + 1)) and answer in seen


def test_sets_are_the_released_ones(case):
    first, complement = made(case)[1].views
    for view, suffix in ((first, ""), (complement, "_rev")):
        assert view.noisy_BL.tolist() == case[f"masked_input{suffix}"]
        assert positions_of(view.scored_BL) == case[f"loss_positions{suffix}"]


def test_losses_and_gradients_are_the_released_ones(shared_data, case):
    student, model = student_of(shared_data, case)
    method, batch = made(case)
    total = 0.0
    for loss, view, suffix in zip(
        method.losses(student, batch, totals_of([batch])), batch.views, ("", "_rev"), strict=True
    ):
        value, parts = back_through([loss])
        total += value
        assert parts["content"] == pytest.approx(case[f"ce{suffix}"], rel=LOSS_TOLERANCE)
        entropy = parts["entropy"] / case["entropy_weight"]
        assert entropy == pytest.approx(case[f"entropy{suffix}"], rel=LOSS_TOLERANCE, abs=1e-7)
        right_BL = torch.zeros_like(view.scored_BL)
        right_BL[view.scored_BL] = student.rows(batch, view).right_M
        assert positions_of(right_BL) == case[f"correct_positions{suffix}"]
    assert total == pytest.approx(case["loss"], rel=LOSS_TOLERANCE, abs=1e-7)
    check_gradients(model, case)


def test_constants_are_the_familys_unless_set(shared_data):
    for name, length, weight in (("llada_block32_middle", 32, 2.0), ("dream_batch2", 24, 1.0)):
        case = cases_of(shared_data, "dparallel")[name]
        student, _ = student_of(shared_data, case)
        method = DParallel(DParallelVariant(), context_of(case))
        sequences = sequences_of(case["input_ids"], case["prompt_lengths"])
        batch = method.batch(sequences)
        assert (batch.views[0].scored_BL | batch.views[1].scored_BL)[0].sum() == length
        expected = made(case)[1]
        parts = back_through(method.losses(student, expected, totals_of([expected])))[1]
        assert parts["entropy"] == pytest.approx(weight * (case["entropy"] + case["entropy_rev"]), rel=1e-4)


@pytest.mark.parametrize("length", [1, 4, 7, 32, None])
def test_each_block_of_an_answer_is_drawn_alike_and_none_is_empty(length):
    sequences = rollout_sequences()
    n_content_B = sequences.content_BL.sum(1)
    counts = [{} for _ in sequences.ids]
    for place in (torch.arange(420) + 0.5) / 420:
        blocks = draw_blocks(sequences, length, place.expand(len(counts)), compat=False)
        inside_BL = blocks.inside(sequences)
        assert torch.equal(inside_BL.sum(1), blocks.end_B - blocks.start_B) and inside_BL.any(1).all()
        for row, start in enumerate(blocks.start_B.tolist()):
            counts[row][start] = counts[row].get(start, 0) + 1
    for row, n_content in enumerate(n_content_B.tolist()):
        begins = range(0, n_content, length or n_content)
        assert sorted(counts[row]) == [sequences.start_B[row].item() + begin for begin in begins]
        assert max(counts[row].values()) - min(counts[row].values()) <= 1


@pytest.mark.parametrize("compat", [False, True])
def test_views_complement_each_other_inside_the_block(compat):
    context, sequences = rollout_context(), rollout_sequences()
    # released behaviour crosses sequences only where there are several
    for one in [sequences] if not compat else [of_each(sequences, [row]) for row in range(6)]:
        batch = DParallel(DParallelVariant(block_length=4, compat=compat), context).batch(one)
        first, complement = batch.views
        scored_BL = (first.scored_BL | complement.scored_BL) & one.content_BL
        assert not (first.scored_BL & complement.scored_BL & one.content_BL).any()
        for row, places in enumerate(positions_of(scored_BL)):
            start = one.start_B[row].item()
            if not places:
                assert compat
                continue
            assert (places[0] - start) % 4 == 0 and len(places) == places[-1] - places[0] + 1 <= 4
            content = positions_of(one.content_BL)[row]
            later = [place for place in content if place > places[-1]]
            for view in (first, complement):
                hidden = positions_of(view.noisy_BL == context.mask_id)[row]
                ends = positions_of(one.end_BL)[row]
                assert hidden == sorted([*positions_of(view.scored_BL & one.content_BL)[row], *later, *ends])
        assert (first.scored_BL & complement.scored_BL == one.end_BL).all()


def test_the_ratio_is_the_share_that_the_first_canvas_hides():
    sequences = rollout_sequences(n_rows=300, n_ends=0)
    batch = DParallel(DParallelVariant(mask_ratio=0.2, block_length="whole"), rollout_context()).batch(
        sequences
    )
    n_first, n_rest = (batch.counts[f"n_scored_{number}"] for number in (0, 1))
    assert n_first + n_rest == sequences.content_BL.sum()
    assert n_first / (n_first + n_rest) == pytest.approx(0.2, abs=0.03)


def test_without_the_complement_there_is_one_canvas():
    method = DParallel(DParallelVariant(complement=False), rollout_context())
    batch = method.batch(rollout_sequences())
    assert method.n_losses == len(batch.views) == DParallelVariant(complement=False).passes == 1
    assert DParallelVariant().passes == 2


def test_micro_batches_sum_to_the_mean_over_tokens_and_the_mean_of_their_entropies():
    student, _ = tiny_student("dream")
    sequences = rollout_sequences()
    context = replace(rollout_context("dream"), mask_id=student.mask_id)
    method = DParallel(DParallelVariant(), context)
    halves = [method.batch(of_each(sequences, rows)) for rows in ([0, 1], [2, 3, 4, 5])]
    whole = method.batch(sequences)
    found = [back_through(method.losses(student, half, totals_of(halves)))[1] for half in halves]
    alone = [back_through(method.losses(student, half, totals_of([half])))[1] for half in halves]
    expected = back_through(method.losses(student, whole, totals_of([whole])))[1]
    for name in ("content", "ends"):
        assert found[0][name] + found[1][name] == pytest.approx(expected[name], rel=1e-5)
    # a micro-batch's mean, in the content's share of the batch that it belongs to
    shares = [content_share(totals_of(part)) for part in ([halves[0]], [halves[1]], halves)]
    means = [one["entropy"] / share for one, share in zip(alone, shares, strict=False)]
    assert [2 * one["entropy"] / shares[2] for one in found] == pytest.approx(means)


def test_a_batch_without_loss_takes_part():
    sequences = rollout_sequences(n_ends=0)
    nothing = replace(sequences, content_BL=torch.zeros_like(sequences.content_BL))
    method = DParallel(DParallelVariant(certainty=1.0), rollout_context())
    check_nothing_to_learn(method, method.batch(nothing))


def test_draws_do_not_depend_on_batch_mates():
    sequences, method = rollout_sequences(), DParallel(DParallelVariant(block_length=4), rollout_context())
    together, alone = method.batch(sequences), method.batch(of_each(sequences, [2]))
    for several, one in zip(together.views, alone.views, strict=True):
        assert torch.equal(several.noisy_BL[2:3], one.noisy_BL)
        assert torch.equal(several.scored_BL[2:3], one.scored_BL)
    coins = together.views[0].scored_BL & sequences.content_BL
    assert len({tuple(row) for row in positions_of(coins)}) > 1


def test_a_block_ends_where_the_answer_does():
    sequences = rollout_sequences(n_ends=5)
    for place in torch.linspace(0, 0.99, 10):
        blocks = draw_blocks(sequences, 4, place.expand(6), compat=False)
        assert (blocks.end_B <= sequences.start_B + sequences.content_BL.sum(1)).all()
        assert isinstance(blocks, Blocks)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_loss_falls_in_a_few_steps(family):
    variant = DParallelVariant(block_length=8, certainty=0.1, certainty_ramp=0.0)
    check_learns(
        lambda context: DParallel(variant, context), family, {"content", "ends", "entropy", "certainty"}
    )
