"""The loss against dLLM's published values and its slow obvious version; passes through the student."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes.batches import batch_of, made_up
from fakes.training_student import VOCAB_SIZE, tiny_family, tiny_model
from torch import nn
from torch.nn import functional

from trims_core.masking import Masks, loss_weights
from trims_core.students import load_student
from trims_core.students.shapes import random_student
from trims_core.training.methods.terms import normalise
from trims_core.training.sequences import Totals
from trims_core.training.student import Denoiser, TrainedStudent
from trims_core.training.trainable import add_lora


def trained(model, family=None):
    denoiser = Denoiser(model, family or tiny_family())
    return TrainedStudent(denoiser, denoiser)


@pytest.mark.parametrize("norm", ["token", "sequence", "batch"])
@pytest.mark.parametrize("weight", ["scheduler", "uniform"])
def test_losses_and_head_gradients_equal_the_reference_trainers(shared_data, weight, norm):
    oracle = np.load(shared_data / "oracles" / "mdlm_loss.npz")
    expected = {
        (case["weight"], case["norm"]): case
        for case in json.loads((shared_data / "oracles" / "mdlm_loss.json").read_text())
    }[weight, norm]
    student = load_student(str(shared_data / "oracles" / "llada" / "tiny_mha"))
    target_BL = torch.from_numpy(oracle["input_ids"])
    supervised_BL = torch.from_numpy(oracle["labels"]) != -100
    masked_BL = torch.from_numpy(oracle["masked"])
    t_B = torch.from_numpy(oracle["t"])
    none_BL, none_B = torch.zeros_like(masked_BL), torch.zeros(len(t_B), dtype=torch.bool)
    masks = Masks(masked_BL, t_B[:, None] * supervised_BL, supervised_BL, none_BL, t_B, none_B)
    weight_BL = loss_weights("inverse_t" if weight == "scheduler" else "uniform", masks)
    batch = batch_of(target_BL, supervised_BL, none_BL, masked_BL, weight_BL, mask_id=126)
    totals = Totals(batch.counts, n_sequences=len(t_B), n_micro_batches=1)
    weight_BL = normalise(weight_BL, batch.n_supervised_B, norm, totals)
    loss, nll_M = trained(student.model, student.family).cross_entropy(batch, batch.view, weight_BL)
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-5)
    assert loss.item() == pytest.approx((nll_M * weight_BL[masked_BL]).sum().item(), rel=1e-5)
    gradient = student.model.get_output_embeddings().weight.grad
    reference = torch.from_numpy(oracle[f"grad_head_{weight}_{norm}"])
    assert ((gradient - reference).norm() / reference.norm()).item() < 1e-5


def test_context_weights_equal_the_reference_programs(shared_data):
    oracle = np.load(shared_data / "oracles" / "mdlm_loss.npz")
    masked_BL = torch.from_numpy(oracle["masked"])
    zero_B = torch.zeros(len(masked_BL))
    none_BL = torch.zeros_like(masked_BL)
    masks = Masks(masked_BL, masked_BL.float(), ~none_BL, none_BL, zero_B, zero_B.bool())
    weight_BL = loss_weights("cart", masks, cart_p=0.3)
    reference = torch.from_numpy(oracle["cart_p0.3"])
    assert torch.equal(weight_BL > 0, reference > 0)
    torch.testing.assert_close(weight_BL, reference, rtol=1e-5, atol=0)


def dense_nll(logits_BLV, batch):
    return functional.cross_entropy(logits_BLV.transpose(1, 2), batch.target_BL, reduction="none")


def test_masked_positions_give_the_same_loss_as_a_full_forward():
    model, batch = tiny_model(), made_up(VOCAB_SIZE)
    view = batch.view
    nll_BL = dense_nll(model(view.noisy_BL).logits, batch)
    expected = (nll_BL * view.weight_BL * view.scored_BL).sum()
    loss, nll_M = trained(model).cross_entropy(batch, view, view.weight_BL)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(nll_M, nll_BL[view.scored_BL], rtol=1e-4, atol=1e-5)
    assert loss.requires_grad and not nll_M.requires_grad
    rows = trained(model).rows(batch, view)
    torch.testing.assert_close(rows.nll_M, nll_M, rtol=1e-5, atol=1e-6)
    assert rows.nll_M.requires_grad


@pytest.mark.parametrize("aligned", [True, False])
def test_a_shifted_family_is_trained_on_the_predictions_it_decodes_with_unless_it_is_told_not_to(aligned):
    student = random_student("dream-7b", n_layers=2, width=256, mlp_width=64)
    batch = made_up(VOCAB_SIZE)
    # position 0 has nothing to its left
    batch.view.scored_BL[:, 0] = True
    view = replace(batch.view, aligned=aligned)
    logits_BLV = student.forward(view.noisy_BL) if aligned else student.model(view.noisy_BL).logits
    expected = (dense_nll(logits_BLV, batch) * view.weight_BL * view.scored_BL).sum()
    loss, _ = trained(student.model, student.family).cross_entropy(batch, view, view.weight_BL)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_nothing_masked_gives_loss_zero_and_zero_gradients_not_nan():
    batch = made_up(VOCAB_SIZE)
    view = replace(batch.view, scored_BL=torch.zeros_like(batch.view.scored_BL))
    for of_rows in (False, True):
        model = tiny_model()
        student = trained(model)
        if of_rows:
            rows = student.rows(batch, view, (1.0, 0.5))
            loss = rows.nll_M.sum() + sum(one.sum() for one in rows.entropies)
        else:
            loss, _ = student.cross_entropy(batch, view, view.weight_BL)
        loss.backward()
        assert loss.item() == 0.0
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients and all(torch.equal(g, torch.zeros_like(g)) for g in gradients)


def test_everything_masked_gives_a_finite_loss():
    batch = made_up(VOCAB_SIZE)
    all_BL = torch.ones_like(batch.view.scored_BL)
    view = replace(batch.view, scored_BL=all_BL, noisy_BL=torch.full_like(batch.target_BL, VOCAB_SIZE - 1))
    assert torch.isfinite(trained(tiny_model()).cross_entropy(batch, view, view.weight_BL)[0])


def with_dropout():
    model = tiny_model().train()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    return model


def test_dropout_follows_the_canvas_and_leaves_the_global_generator_alone():
    student, batch = trained(with_dropout()), made_up(VOCAB_SIZE)
    view = batch.view
    before = torch.random.get_rng_state()
    first = student.rows(batch, view).nll_M
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(3)
    torch.testing.assert_close(first, student.cross_entropy(batch, view, view.weight_BL)[1])
    other = student.rows(batch, replace(view, dropout_seed=8)).nll_M
    assert not torch.equal(first, other)


def test_a_frozen_pass_has_neither_dropout_nor_a_gradient_and_training_goes_on_behind_it():
    model, batch = with_dropout(), made_up(VOCAB_SIZE)
    student, view = trained(model), batch.view
    with student.frozen():
        one, other = (student.rows(batch, replace(view, dropout_seed=seed)).nll_M for seed in (7, 8))
    assert torch.equal(one, other) and not one.requires_grad
    assert model.training and not torch.equal(one, student.rows(batch, view).nll_M)
    assert torch.is_grad_enabled()
    with pytest.raises(RuntimeError), student.frozen():
        raise RuntimeError
    assert model.training and torch.is_grad_enabled()


def test_a_frozen_pass_leaves_a_student_that_is_not_in_training_as_it_is():
    denoiser = Denoiser(tiny_model(), tiny_family()).eval()
    with TrainedStudent(denoiser, denoiser).frozen():
        pass
    assert not denoiser.training and not denoiser.model.training


def test_the_reference_is_the_student_without_its_adapter():
    from trims_core.config import LoraSettings

    base, batch = tiny_model(), made_up(VOCAB_SIZE)
    view = batch.view
    with torch.no_grad():
        reference_MV = base(view.noisy_BL).logits[view.scored_BL].log_softmax(1)
    model = add_lora(tiny_model(), LoraSettings(dropout=0.0), ["q_proj", "up_proj"], 0)
    student = trained(model)
    torch.testing.assert_close(
        student.rows(batch, view, reference=True).kl_M, torch.zeros(len(reference_MV)), atol=1e-6, rtol=0
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(1))
    rows = student.rows(batch, view, reference=True)
    log_p_MV = model(view.noisy_BL).logits[view.scored_BL].log_softmax(1)
    expected = functional.kl_div(log_p_MV, reference_MV, reduction="none", log_target=True).sum(1)
    torch.testing.assert_close(rows.kl_M, expected, rtol=1e-4, atol=1e-5)
    rows.kl_M.sum().backward()
    assert all(
        (weight.grad is not None and weight.grad.any()) == ("lora_" in name)
        for name, weight in model.named_parameters()
    )


def test_dead_columns_are_not_attended():
    model, batch = tiny_model(), made_up(VOCAB_SIZE)
    attended_BL = torch.ones_like(batch.target_BL)
    attended_BL[:, -2:] = 0
    scored_BL = batch.view.scored_BL & (attended_BL == 1)
    batch = replace(batch, attention_BL=attended_BL)
    losses = []
    for junk in (1, 5):
        noisy_BL = torch.where(attended_BL == 1, batch.view.noisy_BL, junk)
        view = replace(batch.view, noisy_BL=noisy_BL, scored_BL=scored_BL)
        losses.append(trained(model).cross_entropy(batch, view, view.weight_BL)[0])
    torch.testing.assert_close(losses[0], losses[1])
