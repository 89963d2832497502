"""D2F against its published program's matrices, sets, losses and gradients, and what its rules promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes.methods import tiny_student
from fakes.objectives import (
    GRADIENT_TOLERANCE,
    LOSS_TOLERANCE,
    back_through,
    cases_of,
    check_gradients,
    context_of,
    positions_of,
    sequences_of,
    totals_of,
)
from fakes.rollouts import check_learns, check_nothing_to_learn, of_each, rollout_context, rollout_sequences

from trims_core.block_causal import sees
from trims_core.config import LoraSettings
from trims_core.students import load_student
from trims_core.training.methods.d2f import D2f, count_blocks, of_blocks
from trims_core.training.student import Denoiser, TrainedStudent
from trims_core.training.trainable import add_lora
from trims_core.variants import D2fVariant

NAMES = (
    "llada_align",
    "llada_remainder",
    "llada_batch2",
    "llada_eos_blocks",
    "llada_one_block",
    "llada_hard_labels",
    "dream_align",
    "dream_batch2",
)
ADAPTER = LoraSettings(r=4, alpha=8, dropout=0.0)


@pytest.fixture(params=NAMES)
def case(shared_data, request):
    return cases_of(shared_data, "d2f")[request.param]


def adapted_student(shared_data, case):
    """A case's student with its adapter, all of it trainable, and the module inside."""
    folder = shared_data / "oracles" / "objectives" / case["adapter"]
    checkpoint = shared_data / "oracles" / case["checkpoint"].partition(" ")[0]
    loaded = load_student(str(checkpoint), adapter=folder)
    model = loaded.model.requires_grad_(True).train()
    denoiser = Denoiser(model, loaded.family)
    return TrainedStudent(denoiser, denoiser), model


def made(case, **changes):
    """A case's method, its sequences, and the batch of its draws."""
    variant = D2fVariant(
        **{
            "block_length": case["block_size"],
            "self_align": case["self_align"],
            "compat": True,
            **changes,
        }
    )
    method = D2f(variant, context_of(case))
    sequences = sequences_of(case["input_ids"], case["prompt_lengths"])
    hidden_BL = positions_of(case["masked_positions"], sequences.target_BL.shape)
    return method, sequences, method.canvases(sequences, ratios_of(case, method, sequences), hidden_BL)


def ratios_of(case, method, sequences):
    n_blocks_B = count_blocks(sequences.blocks(case["block_size"]), sequences.content_BL)
    assert n_blocks_B.tolist() == case["blocks_per_row"]
    first_B, growth_BN = (torch.tensor(case[name]) for name in ("first_ratio_draw", "increment_draws"))
    return method.ratios(first_B, growth_BN, n_blocks_B)


def lora_student(family, seed=0):
    """A tiny student whose fresh adapter alone is trained, and its model."""
    student, model = tiny_student(family, seed)
    own = student._denoiser.family
    targets = own.lora_targets("all-linear")
    model = add_lora(model.requires_grad_(False), ADAPTER, targets, seed=0)
    denoiser = Denoiser(model.train(), own)
    return TrainedStudent(denoiser, denoiser), model


def test_every_case_is_tested(shared_data):
    assert tuple(cases_of(shared_data, "d2f")) == NAMES


def test_what_sees_what_is_the_published_matrix(case):
    _, _, batch = made(case)
    block_BL = batch.view.block_BL
    shape = tuple(case["arrays"]["attention_shape"])
    bits = np.unpackbits(case["arrays"]["attention_allowed"], axis=-1)[..., : shape[-1]].reshape(shape)
    assert torch.equal(sees(block_BL, block_BL), torch.from_numpy(bits.astype(bool)))


def test_shares_and_sets_are_the_published_ones(case):
    method, sequences, batch = made(case)
    for found, published in zip(ratios_of(case, method, sequences).tolist(), case["p_block"], strict=True):
        assert found[: len(published)] == pytest.approx(published, rel=1e-6)
    assert batch.view.noisy_BL.tolist() == case["masked_input"]
    assert [row.nonzero()[:, 0].tolist() for row in batch.view.scored_BL] == case["masked_positions"]


def test_losses_and_gradients_are_the_published_ones(shared_data, case):
    student, model = adapted_student(shared_data, case)
    method, _, batch = made(case)
    total, parts = back_through(method.losses(student, batch, totals_of([batch])))
    assert total == pytest.approx(case["loss"], rel=LOSS_TOLERANCE)
    assert parts["content"] == pytest.approx(case["loss"], rel=LOSS_TOLERANCE)
    check_gradients(model.get_base_model(), case)
    official = model.get_base_model().student_family.official_name
    gradients = {
        official(name).replace(".default", ""): weight.grad
        for name, weight in model.named_parameters()
        if "lora_" in name
    }
    squares = sum(gradient.double().square().sum() for gradient in gradients.values())
    assert squares.sqrt().item() == pytest.approx(case["grad_lora_l2"], rel=GRADIENT_TOLERANCE)
    first = torch.from_numpy(case["arrays"]["grad_lora_B_first"].astype(np.float64))
    found = gradients[case["grad_lora_B_first_name"]].double()
    assert (found - first).norm() <= GRADIENT_TOLERANCE * first.norm()


def test_each_token_costs_what_is_published(shared_data, case):
    student, _ = adapted_student(shared_data, case)
    _, _, batch = made(case)
    rows = student.rows(batch, batch.view, reference=True)
    cost_M = rows.cross_nats if case["self_align"] else rows.nll_M
    cost_M = cost_M * batch.view.weight_BL[batch.view.scored_BL]
    assert cost_M.tolist() == pytest.approx(case["token_losses_over_p"], rel=5e-5, abs=1e-6)


def test_the_noise_grows_by_an_answers_own_blocks(shared_data):
    case = cases_of(shared_data, "d2f")["llada_batch2"]
    method, sequences, _ = made(case, compat=False)
    longest, shorter = ratios_of(case, method, sequences).tolist()
    assert longest == pytest.approx(case["p_block"][0], rel=1e-6)
    first, n_blocks = case["p_block"][1][0], case["blocks_per_row"][1]
    published = np.array(case["p_block"][1]) - first
    own = np.array(shorter[:n_blocks]) - first
    assert own == pytest.approx(published * (5 - 1) / (n_blocks - 1), rel=1e-5)


def test_shares_grow_and_stay_between_their_bounds():
    method = D2f(D2fVariant(block_length=4), rollout_context())
    sequences = rollout_sequences(n_rows=300)
    n_blocks_B = count_blocks(sequences.blocks(4), sequences.content_BL)
    assert torch.equal(n_blocks_B, (sequences.content_BL.sum(1) + 3) // 4)
    uniform_BN = torch.rand(300, int(n_blocks_B.max()), generator=torch.Generator().manual_seed(0))
    ratio_BN = method.ratios(uniform_BN[:, 0], uniform_BN[:, 1:], n_blocks_B)
    assert (ratio_BN[:, 0] >= 0.2).all() and (ratio_BN.diff(dim=1) >= 0).all()
    last_B = ratio_BN.gather(1, n_blocks_B[:, None] - 1)[:, 0]
    assert (last_B <= 0.7 + 1e-6).all()
    assert last_B.mean().item() == pytest.approx(0.45 + 0.25 / 2, abs=0.02)


def test_each_block_hides_its_share():
    variant = D2fVariant(block_length=5, noise_min=0.3, noise_max=0.3)
    sequences = rollout_sequences(n_rows=400)
    view = D2f(variant, rollout_context()).batch(sequences).view
    hidden_BL = view.scored_BL & sequences.content_BL
    block_BL = sequences.blocks(5)
    for block in range(4):
        inside_BL = sequences.content_BL & (block_BL == block)
        share = (hidden_BL & inside_BL).sum() / inside_BL.sum()
        assert share.item() == pytest.approx(0.3, abs=0.04)
    assert torch.allclose(view.weight_BL[hidden_BL], torch.tensor(1 / 0.3))


def test_drawn_shares_are_those_of_the_blocks():
    method, sequences = D2f(D2fVariant(block_length=4), rollout_context()), rollout_sequences(n_rows=500)
    view, block_BL = method.batch(sequences).view, sequences.blocks(4)
    hidden_BL = view.scored_BL & sequences.content_BL
    p_BL = torch.where(hidden_BL, 1 / view.weight_BL, torch.nan)
    assert p_BL[hidden_BL].min() >= 0.2 and p_BL[hidden_BL].max() <= 0.7 + 1e-6
    # later blocks are noisier, and the number behind a share differs from block to block
    means = [p_BL[hidden_BL & (block_BL == block)].mean().item() for block in (0, 4)]
    assert means[0] < means[1] - 0.05
    growths = [
        (p_BL[row, block_BL[row] == 1].nanmean() - p_BL[row, block_BL[row] == 0].nanmean()).item()
        for row in range(100)
    ]
    assert len({round(growth, 6) for growth in growths if growth == growth}) > 50


def test_ends_are_hidden_and_learned_only_beside_content():
    sequences = rollout_sequences(n_rows=40, n_ends=6)
    context = rollout_context()
    ours = D2f(D2fVariant(block_length=4), context).batch(sequences)
    published = D2f(D2fVariant(block_length=4, compat=True), context).batch(sequences)
    block_BL = sequences.blocks(4)
    n_blocks_B1 = count_blocks(block_BL, sequences.content_BL)[:, None]
    beside_BL = sequences.end_BL & (block_BL < n_blocks_B1)
    assert (beside_BL.sum(1) < 6).all() and beside_BL.any()
    for batch, learned_BL in ((ours, beside_BL), (published, sequences.end_BL)):
        assert (batch.view.noisy_BL[sequences.end_BL] == context.mask_id).all()
        assert torch.equal(batch.view.scored_BL & sequences.end_BL, learned_BL)
        assert batch.counts["n_ends"] == learned_BL.sum()
        assert (batch.view.weight_BL[learned_BL] == 1).all()
        assert (batch.view.weight_BL[~batch.view.scored_BL] == 0).all()


def test_a_hidden_end_of_turn_is_learned_wherever_it_stands():
    sequences = rollout_sequences(n_rows=60, n_ends=6)
    context = rollout_context()
    hidden = replace(context, ends=context.ends.model_copy(update={"hide_end_of_turn": True}))
    first_BL = sequences.end_BL & (sequences.end_BL.cumsum(1) == 1)
    boundary_B = sequences.content_BL.sum(1) % 4 == 0
    assert boundary_B.any()
    scored = [D2f(D2fVariant(block_length=4), c).batch(sequences).view.scored_BL for c in (context, hidden)]
    assert not scored[0][boundary_B][first_BL[boundary_B]].any()
    assert scored[1][first_BL].all() and not (scored[1] & sequences.end_BL)[:, -2:].all()


def test_a_block_behind_the_content_is_worth_1():
    ratio_BN = torch.tensor([[0.25, 0.5]])
    block_BL = torch.tensor([[-1, 0, 1, 2, 7]])
    assert of_blocks(ratio_BN, block_BL).tolist() == [[1.0, 0.25, 0.5, 1.0, 1.0]]


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_student_sees_no_later_block_and_its_teacher_all(family):
    student, model = lora_student(family)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(1))
    method = D2f(D2fVariant(block_length=4), replace(rollout_context(family), mask_id=student.mask_id))
    sequences = rollout_sequences(n_rows=3)
    batch = method.batch(sequences)
    block_BL = sequences.blocks(4)
    other_BL = torch.where((block_BL >= 2) & sequences.content_BL, 1, batch.view.noisy_BL)
    changed = replace(batch, views=(replace(batch.view, noisy_BL=other_BL),))
    one, two = (student.rows(b, b.view, reference=True) for b in (batch, changed))
    # Dream's first token of a block is predicted a column before it
    early_M = (block_BL < 2)[batch.view.scored_BL]
    torch.testing.assert_close(one.nll_M[early_M], two.nll_M[early_M], atol=1e-5, rtol=1e-5)
    assert (one.nll_M[~early_M] - two.nll_M[~early_M]).abs().max() > 1e-3
    found = one.reference_entropy_M[early_M] - two.reference_entropy_M[early_M]
    assert found.abs().max() > 1e-4


def test_dead_columns_are_seen_by_nobody():
    student, _ = lora_student("llada")
    sequences = rollout_sequences(n_rows=4)
    batch = D2f(D2fVariant(block_length=4), rollout_context()).batch(sequences)
    dead_BL = ~sequences.attended_BL
    assert dead_BL.any()
    view = replace(batch.view, noisy_BL=torch.where(dead_BL, 5, batch.view.noisy_BL))
    one, two = student.rows(batch, batch.view, reference=True), student.rows(batch, view, reference=True)
    for name in ("nll_M", "cross_nats"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name), atol=1e-5, rtol=1e-5)


def test_the_teacher_has_no_gradient_and_is_the_student_without_adapter():
    student, model = lora_student("llada")
    method = D2f(D2fVariant(block_length=4), rollout_context())
    batch = method.batch(rollout_sequences())
    total, _ = back_through(method.losses(student, batch, totals_of([batch])))
    assert total > 0
    trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert trained and all("lora_" in name for name in trained)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_an_adapter_comes_nearer_to_the_teacher_in_a_few_steps(family):
    student, model = lora_student(family)
    context = replace(rollout_context(family), mask_id=student.mask_id)
    method = D2f(D2fVariant(block_length=4, certainty=0.1, certainty_ramp=0.0), context)
    batch = method.batch(rollout_sequences())
    optimizer = torch.optim.Adam([w for w in model.parameters() if w.requires_grad], lr=1e-2)
    gaps = []
    for _ in range(25):
        optimizer.zero_grad()
        total, parts = back_through(method.losses(student, batch, totals_of([batch])))
        assert set(parts) == {"content", "ends", "certainty"}
        assert total == pytest.approx(sum(parts.values()), rel=1e-4)
        with student.frozen():
            gaps.append(student.rows(batch, batch.view, reference=True).kl_M.mean().item())
        optimizer.step()
    assert gaps[-1] < 0.7 * gaps[0]


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_hard_labels_are_learned(family):
    variant = D2fVariant(block_length=4, self_align=False)
    check_learns(lambda context: D2f(variant, context), family, {"content", "ends"})


def test_a_batch_without_loss_takes_part():
    sequences = rollout_sequences(n_ends=0)
    nothing = replace(sequences, content_BL=torch.zeros_like(sequences.content_BL))
    method = D2f(D2fVariant(block_length=4, self_align=False, certainty=1.0), rollout_context())
    check_nothing_to_learn(method, method.batch(nothing))


def test_draws_do_not_depend_on_batch_mates():
    sequences = rollout_sequences()
    method = D2f(D2fVariant(block_length=4), rollout_context())
    together = method.batch(sequences).view
    for row in range(len(sequences.ids)):
        alone = method.batch(of_each(sequences, [row])).view
        assert torch.equal(together.noisy_BL[[row]], alone.noisy_BL)
        assert torch.equal(together.weight_BL[[row]], alone.weight_BL)


def test_the_teachers_pass_is_counted():
    assert (D2fVariant().passes, D2fVariant(self_align=False).passes) == (2, 1)
    assert D2fVariant().reads_reference and not D2fVariant(self_align=False).reads_reference


def test_a_batch_without_loss_takes_part_beside_a_teacher():
    student, model = lora_student("llada")
    sequences = rollout_sequences(n_ends=0)
    nothing = replace(sequences, content_BL=torch.zeros_like(sequences.content_BL))
    method = D2f(D2fVariant(block_length=4), rollout_context())
    batch = method.batch(nothing)
    assert back_through(method.losses(student, batch, totals_of([batch])))[0] == 0.0
    assert all(not w.grad.any() for w in model.parameters() if w.grad is not None)
