"""What methods share: what a loss is divided by, how ends are paid, and the certainty term."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from fakes.batches import made_up
from fakes.objectives import totals_of
from fakes.training_student import VOCAB_SIZE, tiny_family, tiny_model
from torch.nn import functional

from trims_core.training.methods.terms import (
    certainty_term,
    content_certainty,
    masked_loss,
    mean_with_ends,
    normalise,
)
from trims_core.training.sequences import Totals
from trims_core.training.student import Denoiser, TrainedStudent
from trims_core.variants import StandardVariant


def totals(n_content=7.0, n_ends=3.0, n_sequences=5, n_micro_batches=1, **counts):
    return Totals({"n_content": n_content, "n_ends": n_ends, **counts}, n_sequences, n_micro_batches)


@pytest.mark.parametrize(
    ("norm", "expected"), [("token", 1 / 10), ("sequence", 1 / (3 * 5)), ("batch", 1 / 5)]
)
def test_normalisation_divides_by_the_global_batch(norm, expected):
    weight_BL = normalise(torch.ones(2, 4), torch.tensor([3, 0]), norm, totals())
    assert weight_BL[0, 0].item() == pytest.approx(expected)
    assert torch.isfinite(weight_BL).all()


def test_nothing_supervised_anywhere_divides_by_one():
    nothing = totals(n_content=0.0, n_ends=0.0, n_scored=0.0)
    assert torch.isfinite(normalise(torch.zeros(2, 4), torch.zeros(2), "token", nothing)).all()
    batch = made_up(VOCAB_SIZE)
    assert torch.isfinite(mean_with_ends(batch, batch.view, "n_scored", nothing)).all()


def test_without_ends_the_content_has_its_plain_mean():
    batch = made_up(VOCAB_SIZE)
    weight_BL = mean_with_ends(batch, batch.view, "n_scored", totals(n_ends=0.0, n_scored=4.0))
    at_BL = batch.content_BL
    torch.testing.assert_close(weight_BL[at_BL], batch.view.weight_BL[at_BL] / 4)


def test_ends_have_the_same_say_whether_a_method_scores_few_tokens_or_many():
    batch = made_up(VOCAB_SIZE)
    view = replace(batch.view, weight_BL=torch.ones_like(batch.view.weight_BL))
    for n_scored in (1.0, 7.0):
        weight_BL = mean_with_ends(batch, view, "n_scored", totals(n_scored=n_scored))
        torch.testing.assert_close(weight_BL[batch.end_BL], torch.full((12,), 1 / 10))
        # the mean over the scored tokens, times 7 of 10
        torch.testing.assert_close(weight_BL[batch.content_BL], torch.full((28,), 0.7 / n_scored))


def test_micro_batches_add_up_to_the_whole_batch_for_any_split():
    whole = made_up(VOCAB_SIZE)
    student = trained(tiny_model())
    parts = [rows_of(whole, slice(0, 1)), rows_of(whole, slice(1, 4))]
    sums = []
    for batches in ([whole], parts):
        of_step = totals_of(batches)
        sums.append(
            sum(
                masked_loss(
                    student,
                    batch,
                    batch.view,
                    mean_with_ends(batch, batch.view, "n_scored", of_step),
                    of_step,
                    StandardVariant(),
                ).total.item()
                for batch in batches
            )
        )
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)


def rows_of(batch, rows):
    """Some of a batch's rows."""
    view = batch.view
    return replace(
        batch,
        target_BL=batch.target_BL[rows],
        content_BL=batch.content_BL[rows],
        end_BL=batch.end_BL[rows],
        views=(
            replace(
                view,
                noisy_BL=view.noisy_BL[rows],
                scored_BL=view.scored_BL[rows],
                weight_BL=view.weight_BL[rows],
            ),
        ),
        counts={
            "n_content": int(batch.content_BL[rows].sum()),
            "n_ends": int(batch.end_BL[rows].sum()),
            "n_scored": int((batch.content_BL & view.scored_BL)[rows].sum()),
        },
        ids=batch.ids[rows],
    )


def trained(model):
    denoiser = Denoiser(model, tiny_family())
    return TrainedStudent(denoiser, denoiser)


def dense_terms(model, batch):
    """Of the scored positions: Σ weight·CE, entropies at temperature ½, which predictions are right."""
    view = batch.view
    logits_MV = model(view.noisy_BL).logits[view.scored_BL]
    target_M = batch.target_BL[view.scored_BL]
    nll_M = functional.cross_entropy(logits_MV, target_M, reduction="none")
    entropy_M = torch.distributions.Categorical(logits=logits_MV / 0.5).entropy()
    return (nll_M * view.weight_BL[view.scored_BL]).sum(), entropy_M, logits_MV.argmax(1) == target_M


def surer(model, batch):
    """The model after some steps, so that some of its predictions are right, of ends too."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(25):
        dense_terms(model, batch)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize(
    ("progress", "ramp", "factor"), [(0.0, 0.2, 0.0), (0.05, 0.2, 0.25), (0.5, 0.2, 1.0), (0.0, 0.0, 1.0)]
)
def test_certainty_is_the_mean_entropy_of_right_predictions_ramped_in(progress, ramp, factor):
    batch = made_up(VOCAB_SIZE, progress=progress)
    model = surer(tiny_model(), batch)
    variant = StandardVariant(certainty=3.0, certainty_ramp=ramp)
    of_step = replace(totals_of([batch]), n_micro_batches=4)
    loss = masked_loss(trained(model), batch, batch.view, batch.view.weight_BL, of_step, variant)
    ce, entropy_M, right_M = dense_terms(model, batch)
    assert 0 < right_M.sum() < len(right_M)
    assert (right_M & batch.end_BL[batch.view.scored_BL]).any()
    expected = 3.0 * factor * entropy_M[right_M].mean() / 4
    assert loss.parts["certainty"].item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-7)
    torch.testing.assert_close(loss.total, ce + expected, rtol=1e-5, atol=0)
    assert loss.total.item() == pytest.approx(float(sum(loss.parts.values())), rel=1e-5)
    found = torch.autograd.grad(loss.total, list(model.parameters()))
    wanted = torch.autograd.grad(ce + expected, list(model.parameters()))
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5 * theirs.abs().max().item() + 1e-9)


def test_certainty_where_nothing_is_right_or_nothing_is_scored_adds_zero():
    batch = made_up(VOCAB_SIZE)
    variant = StandardVariant(certainty=3.0, certainty_ramp=0.0)
    # an id that is never a target
    wrong = replace(batch, target_BL=torch.full_like(batch.target_BL, VOCAB_SIZE - 1))
    model = tiny_model()
    with torch.no_grad():
        model.get_output_embeddings().weight[VOCAB_SIZE - 1] = 0
    empty = replace(batch, views=(replace(batch.view, scored_BL=torch.zeros_like(batch.end_BL)),))
    for one in (wrong, empty):
        model.zero_grad()
        loss = masked_loss(trained(model), one, one.view, one.view.weight_BL, totals_of([one]), variant)
        loss.total.backward()
        assert loss.parts["certainty"].item() == 0.0 and torch.isfinite(loss.total)
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    assert loss.total.item() == 0.0


def test_parts_are_what_the_loss_is_the_sum_of_and_have_no_gradient():
    batch, model = made_up(VOCAB_SIZE), tiny_model()
    loss = masked_loss(
        trained(model), batch, batch.view, batch.view.weight_BL, totals_of([batch]), StandardVariant()
    )
    assert set(loss.parts) == {"content", "ends"}
    assert not any(part.requires_grad for part in loss.parts.values()) and loss.total.requires_grad
    nll_BL = functional.cross_entropy(
        model(batch.view.noisy_BL).logits.transpose(1, 2), batch.target_BL, reduction="none"
    )
    part_BL = nll_BL * batch.view.weight_BL * batch.view.scored_BL
    torch.testing.assert_close(loss.parts["ends"], part_BL[batch.end_BL].sum(), rtol=1e-4, atol=0)
    torch.testing.assert_close(loss.parts["content"], part_BL[batch.content_BL].sum(), rtol=1e-4, atol=0)


def test_a_methods_own_certainty_is_about_content_in_its_share_of_the_loss():
    entropy_M, right_M = torch.tensor([1.0, 2.0, 7.0]), torch.tensor([True, False, True])
    batch = SimpleNamespace(end_BL=torch.tensor([[False, False, True]]))
    view = SimpleNamespace(scored_BL=torch.ones(1, 3, dtype=torch.bool))
    totals = Totals({"n_content": 6.0, "n_ends": 2.0}, 1, 2)
    term = content_certainty(2.0, 0.5, batch, view, totals)
    assert float(term.of(entropy_M, right_M)) == pytest.approx(2.0 * 0.75 * 1.0 / 2)
    both = certainty_term("certainty", 2.0, 0.5, totals)
    assert float(both.of(entropy_M, right_M)) == pytest.approx(2.0 * 4.0 / 2)
