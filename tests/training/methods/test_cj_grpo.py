"""CJ-GRPO against its published program's losses and gradients, and what its own rules promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.objectives import (
    Case,
    back_through,
    cases_of,
    check_gradients,
    context_of,
    sequences_of,
    student_of,
    totals_of,
)
from peft.tuners.lora import LoraLayer
from torch import Tensor

from trims_core.errors import InputError
from trims_core.students import load_adapter_official
from trims_core.training.advantages import Judged, advantage, is_flat
from trims_core.training.methods.cj_grpo import CjGrpo, is_clipped, k3, surrogate
from trims_core.training.student import Denoiser, TrainedStudent
from trims_core.variants import CjGrpoVariant

NAMES = (
    "mu1_semiar_g4",
    "mu1_ass_g3",
    "off_policy_semiar_g6",
    "off_policy_eoser_ass_clip",
    "off_policy_two_groups",
    "zero_std_group",
    "eps02_beta1",
    "beta0_off_policy",
    "two_reward_functions_with_none",
    "unequal_counts_per_row",
    "never_revealed_positions",
    "row_finishes_early",
)
TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> dict[str, Case]:
    return {name: {"family": "llada", **case} for name, case in cases_of(shared_data, "cj_grpo").items()}


def variant_of(case: Case, **settings: Any) -> CjGrpoVariant:
    """As published."""
    chosen = {"reduction": "batch_token", "compat": True, **settings}
    n_canvas = len(case["completion_ids"][0])
    rollouts = {"threshold": case["steps"], "gen_length": n_canvas, "block_length": n_canvas, "rule": "steps"}
    rollouts |= {"samples": case["group_size"], "sampling": {"temperature": 1.0}, "grader": "demo"}
    chosen = {"kl": case["beta"], **chosen}
    return CjGrpoVariant(clip=case["epsilon"], rollouts=rollouts, **chosen)


def judged_of(case: Case, advantages: list[float]) -> dict[str, Judged]:
    """By rows, the old log-probabilities from the step that revealed each token."""
    arrays = case["arrays"]
    old_SBC = torch.from_numpy(arrays.get("logp_old", arrays["logp_new"]))
    group, flat = case["group_size"], []
    for start in range(0, len(advantages), group):
        flat += [is_flat(case["rewards"][start : start + group])] * group
    return {
        f"row-{row}": Judged(value, flat[row], old_SBC[:, row].sum(0)) for row, value in enumerate(advantages)
    }


def adapted(shared: Path, case: Case) -> tuple[TrainedStudent, Any, Any]:
    """The case's checkpoint with its current adapter: all of it trainable."""
    student, model = student_of(shared, case)
    folder = shared / "oracles" / "objectives" / case["adapter_current"]
    family = student._denoiser.family
    wrapped = load_adapter_official(model, folder)
    wrapped.requires_grad_(True).train()
    denoiser = Denoiser(wrapped, family)
    return TrainedStudent(denoiser, denoiser), model, wrapped


def batch_of(case: Case, method: CjGrpo) -> Any:
    ids = [p + c for p, c in zip(case["prompt_ids"], case["completion_ids"], strict=True)]
    lengths = [len(prompt) for prompt in case["prompt_ids"]]
    return method.batch(sequences_of(ids, lengths, reveal_step=case["reveal_step"]))


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_the_published_ones(
    cases: dict[str, Case], shared_data: Path, name: str
) -> None:
    case = cases[name]
    method = CjGrpo(variant_of(case), context_of(case), judged_of(case, case["advantages"]))
    batch = batch_of(case, method)
    student, model, wrapped = adapted(shared_data, case)
    losses = list(method.losses(student, batch, totals_of([batch])))
    per_step = [loss.total.item() * case["steps"] for loss in losses]
    total, parts = back_through(losses)
    assert total == pytest.approx(case["loss"], rel=TOLERANCE, abs=1e-7)
    assert total == pytest.approx(sum(parts.values()), rel=1e-4, abs=1e-7)
    assert per_step == pytest.approx(case["loss_per_step"], rel=1e-4, abs=1e-6)
    if case["beta"]:
        assert parts["kl"] == pytest.approx(case["beta"] * case["mean_kl"], rel=1e-4)
    check_gradients(model, case, tolerance=1e-3)
    squares = [p.grad.double().square().sum() for n, p in wrapped.named_parameters() if "lora_" in n]
    assert torch.stack(squares).sum().sqrt().item() == pytest.approx(case["grad_lora_l2"], rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_by_samples_the_loss_is_the_mean_of_each_answers_own(
    cases: dict[str, Case], shared_data: Path, name: str
) -> None:
    case = cases[name]
    if case["loss_sample_reduction"] is None:
        pytest.skip("an answer has a step without tokens, which the published function divides by")
    variant = variant_of(case, reduction="sample_token")
    method = CjGrpo(variant, context_of(case), judged_of(case, case["advantages"]))
    batch = batch_of(case, method)
    student, model, _ = adapted(shared_data, case)
    total, _ = back_through(method.losses(student, batch, totals_of([batch])))
    assert total == pytest.approx(case["loss_sample_reduction"], rel=TOLERANCE, abs=1e-7)
    norm = model.get_output_embeddings().weight.grad.double().norm().item()
    assert norm == pytest.approx(case["arrays"]["sample_reduction_grad_head_summary"][2], rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_advantages_are_the_published_ones_in_both_forms(
    cases: dict[str, Case], shared_data: Path, name: str
) -> None:
    case, group = cases[name], cases[name]["group_size"]
    for row, reward in enumerate(case["rewards"]):
        start = row - row % group
        of = case["rewards"][start : start + group]
        assert advantage(reward, of, "centred") == pytest.approx(case["advantages"][row], abs=2e-7)
        scaled = advantage(reward, of, "standardised")
        assert scaled == pytest.approx(case["advantages_mean_std"][row], rel=1e-5, abs=1e-6)
    method = CjGrpo(variant_of(case), context_of(case), judged_of(case, case["advantages_mean_std"]))
    batch = batch_of(case, method)
    student, _, _ = adapted(shared_data, case)
    total, _ = back_through(method.losses(student, batch, totals_of([batch])))
    assert total == pytest.approx(case["loss_with_advantages_mean_std"], rel=TOLERANCE, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_log_probabilities_are_those_of_each_steps_own_canvas(
    cases: dict[str, Case], shared_data: Path, name: str
) -> None:
    case = cases[name]
    method = CjGrpo(variant_of(case), context_of(case), judged_of(case, case["advantages"]))
    batch = batch_of(case, method)
    student, _, _ = adapted(shared_data, case)
    n_prompt = len(case["prompt_ids"][0])
    for step, view in enumerate(batch.views):
        new = -student.rows(batch, view).nll_M
        ref = -student.reference_nll(batch, view)
        for found_M, key in ((new, "logp_new"), (ref, "logp_ref")):
            if key not in case["arrays"]:
                continue
            found_BL = torch.zeros(view.scored_BL.shape)
            found_BL[view.scored_BL] = found_M.detach()
            expected: Tensor = torch.from_numpy(case["arrays"][key][step].astype(np.float32))
            torch.testing.assert_close(found_BL[:, n_prompt:], expected, rtol=1e-4, atol=1e-4)


def test_micro_batches_of_one_step_sum_to_the_whole_batch(cases: dict[str, Case], shared_data: Path) -> None:
    case = cases["unequal_counts_per_row"]
    for reduction in ("sample_token", "batch_token"):
        gradients = []
        for parts in ([[0, 1, 2, 3]], [[0, 1], [2, 3]], [[0], [1], [2], [3]]):
            variant = variant_of(case, reduction=reduction)
            method = CjGrpo(variant, context_of(case), judged_of(case, case["advantages"]))
            batches = [batch_of(_rows(case, rows), _renamed(method, rows)) for rows in parts]
            student, model, _ = adapted(shared_data, case)
            total = sum(
                back_through(method.losses(student, batch, totals_of(batches)))[0] for batch in batches
            )
            gradients.append((total, model.get_output_embeddings().weight.grad.clone()))
        for total, gradient in gradients[1:]:
            assert total == pytest.approx(gradients[0][0], rel=1e-4)
            torch.testing.assert_close(gradient, gradients[0][1], rtol=1e-3, atol=1e-6)


def _rows(case: Case, rows: list[int]) -> Case:
    lists = ("prompt_ids", "completion_ids", "reveal_step")
    return {**case, **{name: [case[name][row] for row in rows] for name in lists}}


def _renamed(method: CjGrpo, rows: list[int]) -> CjGrpo:
    """Rows are named from 0 in each batch."""
    judged = {f"row-{place}": method._judged[f"row-{row}"] for place, row in enumerate(rows)}
    one = CjGrpo.__new__(CjGrpo)
    one.__dict__ = {**method.__dict__, "_judged": judged}
    return one


def test_a_prompt_whose_answers_are_worth_the_same_gives_no_gradient(
    cases: dict[str, Case], shared_data: Path
) -> None:
    case = cases["unequal_counts_per_row"]
    flat = {name: Judged(0.0, True, one.logprob_C) for name, one in judged_of(case, [0.0] * 4).items()}
    for compat in (False, True):
        method = CjGrpo(variant_of(case, compat=compat), context_of(case), flat)
        batch = batch_of(case, method)
        assert batch.counts["n_flat"] == 4
        student, _, wrapped = adapted(shared_data, case)
        losses = list(method.losses(student, batch, totals_of([batch])))
        assert len(losses) == method.n_losses
        total, _ = back_through(losses)
        has_gradient = any(p.grad.any() for p in wrapped.parameters() if p.grad is not None)
        assert (has_gradient, total != 0.0) == (compat, compat)


def test_the_clip_stops_what_went_far_enough_and_nothing_else() -> None:
    ratio = torch.tensor([2.0, 2.0, 0.4, 0.4, 1.2], requires_grad=True)
    worth = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])
    gain = surrogate(ratio, worth, 0.5)
    assert gain.tolist() == pytest.approx([1.5, -2.0, 0.4, -0.5, 1.2])
    (gradient,) = torch.autograd.grad(gain.sum(), ratio)
    assert (
        (gradient == 0).tolist()
        == is_clipped(ratio, worth, 0.5).tolist()
        == [True, False, False, True, False]
    )


def test_the_divergence_is_never_negative_and_0_only_for_equal_ones() -> None:
    difference = torch.linspace(-3, 3, 61)
    assert (k3(difference) >= 0).all() and k3(torch.zeros(1)).item() == 0.0
    assert k3(torch.tensor([1.0])).item() == pytest.approx(np.e - 2, rel=1e-6)


def test_a_canvas_that_was_cut_is_refused_by_name(cases: dict[str, Case]) -> None:
    case = cases["mu1_ass_g3"]
    judged = judged_of(case, case["advantages"])
    short = {name: Judged(one.advantage, False, one.logprob_C[:-1]) for name, one in judged.items()}
    with pytest.raises(InputError, match=r"rollout row-0: 16 of its 15 .*max_length"):
        batch_of(case, CjGrpo(variant_of(case), context_of(case), short))


def test_released_old_probabilities_are_those_of_the_start_with_other_dropout(
    cases: dict[str, Case], shared_data: Path
) -> None:
    case = cases["mu1_ass_g3"]
    variant = variant_of(case, old_dropout=True, kl=0.0)
    judged = judged_of(case, case["advantages"])
    unread = {name: Judged(one.advantage, False, one.logprob_C * 0) for name, one in judged.items()}
    method = CjGrpo(variant, context_of(case), unread)
    batch = batch_of(case, method)
    found = []
    for dropout in (0.0, 0.5):
        _, _, wrapped = adapted(shared_data, case)
        for layer in (m for m in wrapped.modules() if isinstance(m, LoraLayer)):
            layer.lora_dropout["default"] = torch.nn.Dropout(dropout)
        denoiser = Denoiser(wrapped, student_of(shared_data, case)[0]._denoiser.family, keeps_start=True)
        student = TrainedStudent(denoiser, denoiser.train())
        losses = list(method.losses(student, batch, totals_of([batch])))
        found.append([float(loss.measures["clip_share"]) for loss in losses])
        before = [weight.detach().clone() for weight in wrapped.parameters()]
        with torch.no_grad():
            for weight in wrapped.parameters():
                if weight.requires_grad:
                    weight.add_(0.05)
        moved = [-student.start_nll(batch, view) + student.rows(batch, view).nll_M for view in batch.views]
        assert any(one.abs().max() > 1e-3 for one in moved)  # it stays at the start
        assert all(
            not torch.equal(a, b)
            for a, b in zip(before, wrapped.parameters(), strict=True)
            if b.requires_grad
        )
    assert sum(found[0]) == 0.0 < sum(found[1])
