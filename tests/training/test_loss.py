"""The loss against dLLM's published values, its slow obvious version, and any split of the batch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from fakes.training_student import VOCAB_SIZE, tiny_family, tiny_model
from torch.nn import functional
from trims_core.training.loss import MaskedDenoiser, denoising_loss, normalise

from trims_core.masking import Masks, loss_weights
from trims_core.students import load_student
from trims_core.students.shapes import random_student


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
    weight_BL = normalise(
        loss_weights("inverse_t" if weight == "scheduler" else "uniform", masks),
        supervised_BL.sum(1),
        norm,
        n_supervised=int(supervised_BL.sum()),
        n_sequences=len(t_B),
    )
    noisy_BL = torch.where(masked_BL, 126, target_BL)
    loss, _ = MaskedDenoiser(student.model, student.family)(
        noisy_BL, masked_BL, target_BL, weight_BL, none_BL
    )
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-5)
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


def micro_batch(n_rows: int = 4, length: int = 12, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    target_BL = torch.randint(0, VOCAB_SIZE - 2, (n_rows, length), generator=generator)
    masked_BL = torch.rand(n_rows, length, generator=generator) < 0.5
    return {
        "noisy_BL": torch.where(masked_BL, VOCAB_SIZE - 1, target_BL),
        "target_BL": target_BL,
        "masked_BL": masked_BL,
        "weight_BL": torch.rand(n_rows, length, generator=generator),
        "end_BL": (torch.arange(length) >= 9).expand(n_rows, -1),
        "attention_BL": None,
        "dropout_seed": 7,
    }


def test_masked_positions_give_the_same_loss_as_a_full_forward():
    model, inputs = tiny_model(), micro_batch()
    logits_BLV = model(inputs["noisy_BL"]).logits
    nll_BL = functional.cross_entropy(logits_BLV.transpose(1, 2), inputs["target_BL"], reduction="none")
    part_BL = nll_BL * inputs["weight_BL"] * inputs["masked_BL"]
    loss, end_loss = denoising_loss(MaskedDenoiser(model, tiny_family()), inputs)
    torch.testing.assert_close(loss, part_BL.sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(end_loss, part_BL[:, 9:].sum(), rtol=1e-5, atol=0)
    assert loss.requires_grad and not end_loss.requires_grad


def test_a_shifted_family_is_trained_on_the_predictions_it_decodes_with():
    student = random_student("dream-7b", n_layers=2, width=256, mlp_width=64)
    inputs = micro_batch()
    # position 0 has nothing to its left
    inputs["masked_BL"][:, 0] = True
    logits_BLV = student.forward(inputs["noisy_BL"])
    nll_BL = functional.cross_entropy(logits_BLV.transpose(1, 2), inputs["target_BL"], reduction="none")
    expected = (nll_BL * inputs["weight_BL"] * inputs["masked_BL"]).sum()
    denoiser = MaskedDenoiser(student.model, student.family)
    torch.testing.assert_close(denoising_loss(denoiser, inputs)[0], expected, rtol=1e-5, atol=0)


def test_nothing_masked_gives_loss_zero_and_zero_gradients_not_nan():
    model, inputs = tiny_model(), micro_batch()
    inputs["masked_BL"] = torch.zeros_like(inputs["masked_BL"])
    loss, end_loss = denoising_loss(MaskedDenoiser(model, tiny_family()), inputs)
    loss.backward()
    assert loss.item() == end_loss.item() == 0.0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(torch.equal(g, torch.zeros_like(g)) for g in gradients)


def test_everything_masked_gives_a_finite_loss():
    inputs = micro_batch()
    inputs["masked_BL"] = torch.ones_like(inputs["masked_BL"])
    inputs["noisy_BL"] = torch.full_like(inputs["noisy_BL"], VOCAB_SIZE - 1)
    assert torch.isfinite(denoising_loss(MaskedDenoiser(tiny_model(), tiny_family()), inputs)[0])


def test_dropout_follows_the_micro_batch_and_leaves_the_global_generator_alone():
    model = tiny_model().train()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    inputs = micro_batch()
    before = torch.random.get_rng_state()
    denoiser = MaskedDenoiser(model, tiny_family())
    first, _ = denoising_loss(denoiser, inputs)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(3)
    assert torch.equal(first, denoising_loss(denoiser, inputs)[0])
    assert not torch.equal(first, denoising_loss(denoiser, inputs | {"dropout_seed": 8})[0])


@pytest.mark.parametrize(
    ("norm", "expected"), [("token", 1 / 10), ("sequence", 1 / (3 * 5)), ("batch", 1 / 5)]
)
def test_normalisation_divides_by_the_global_batch(norm, expected):
    weight_BC = normalise(torch.ones(2, 4), torch.tensor([3, 0]), norm, n_supervised=10, n_sequences=5)
    assert weight_BC[0, 0].item() == pytest.approx(expected)
    assert torch.isfinite(weight_BC).all()
