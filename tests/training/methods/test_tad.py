"""TAD against its published program's sets, losses and gradients, and what its own rules promise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes.objectives import (
    LOSS_TOLERANCE,
    back_through,
    cases_of,
    check_adapter_gradients,
    check_gradients,
    context_of,
    sequences_of,
    student_of,
    totals_of,
)
from fakes.rollouts import positions_of

from trims_core.training.methods.tad import Tad, draw_states
from trims_core.variants import TadVariant

NAMES = (
    "llada_delta8",
    "llada_as_released_no_reference",
    "llada_batch2_pads_and_eos",
    "llada_near_end_only_ce",
    "llada_no_bos_prompt_weights",
    "dream_delta6",
    "dream_batch2_no_mask",
    "dream_prompt_without_system",
)


def bounds_of(case):
    """Where each row's canvas begins for the student and for the teacher, and its length."""
    found = []
    for row, (steps, (_, state)) in enumerate(zip(case["reveal_step"], case["record_and_step"], strict=True)):
        first_near = next(i for i, step in enumerate(steps) if state <= step < state + case["delta"])
        start, length = case["near_positions"][row][0] - first_near, len(steps)
        canvas = case["student_input_ids"][row][start : start + length]
        teacher = case["teacher_input_ids"][row]
        places = range(len(teacher) - length, -1, -1)
        found.append((start, next(i for i in places if teacher[i : i + length] == canvas), length))
    return found


def sequences_of_case(case):
    """The case's rows before anything was hidden; what it does not tell of tokens is 0."""
    bounds = bounds_of(case)
    clean = [
        [max(label, 0) if token == case["mask_id"] else token for token, label in zip(*row, strict=True)]
        for row in zip(case["student_input_ids"], case["labels"], strict=True)
    ]
    starts = [start for start, _, _ in bounds]
    sequences = sequences_of(clean, starts, reveal_step=case["reveal_step"])
    place_L = torch.arange(len(clean[0]))
    end_B1 = torch.tensor([start + length for start, _, length in bounds])[:, None]
    prompts = [ids[:start] for ids, (_, start, _) in zip(case["teacher_input_ids"], bounds, strict=True)]
    reference_BP = torch.full((len(prompts), max(map(len, prompts))), -1)
    for row, prompt in enumerate(prompts):
        reference_BP[row, : len(prompt)] = torch.tensor(prompt)
    return replace(sequences, content_BL=sequences.content_BL & (place_L < end_B1), reference_BP=reference_BP)


def variant_of(case, **changes):
    settings = {
        "window": case["delta"],
        "temperature": case["tau"],
        "ce_weight": case["weight_ce"],
        "kl_weight": case["weight_kl"],
        "compat": True,
    }
    return TadVariant(**(settings | changes))


def made(case, **changes):
    """A case's method and the batch of its states."""
    method = Tad(variant_of(case, **changes), context_of(case))
    states = [state for _, state in case["record_and_step"]]
    return method, method.canvases(sequences_of_case(case), torch.tensor(states))


@pytest.fixture(params=NAMES)
def case(shared_data, request):
    return cases_of(shared_data, "tad")[request.param]


def attention_of(attention_BL, ids):
    return [[1] * len(row) for row in ids] if attention_BL is None else attention_BL.tolist()


def test_every_case_is_tested(shared_data):
    assert tuple(cases_of(shared_data, "tad")) == NAMES


def test_canvases_and_sets_are_the_published_ones(case):
    _, batch = made(case)
    view, far_BL = batch.view, batch.extras["far_BL"]
    assert view.noisy_BL.tolist() == case["student_input_ids"]
    assert view.reference.noisy_BL.tolist() == case["teacher_input_ids"]
    assert positions_of(view.scored_BL & ~far_BL) == case["near_positions"]
    assert positions_of(far_BL) == case["far_positions"]
    # the teacher's scored positions are the student's, in order: those that are far are the case's
    far_M = far_BL[view.scored_BL]
    row_M, place_M = view.reference.scored_BL.nonzero(as_tuple=True)
    for row, expected in enumerate(case["far_positions_teacher"]):
        assert place_M[far_M & (row_M == row)].tolist() == expected


def test_attention_is_the_published_one(case):
    _, batch = made(case)
    for canvas, whose in ((batch, "student"), (batch.view.reference, "teacher")):
        ids = case[f"{whose}_input_ids"]
        expected = case[f"{whose}_attention_mask"] or attention_of(None, ids)
        assert attention_of(canvas.attention_BL, ids) == expected


def test_losses_and_gradients_are_the_published_ones(shared_data, case):
    student, model = student_of(shared_data, case)
    method, batch = made(case)
    total, parts = back_through(method.losses(student, batch, totals_of([batch])))
    assert parts["content"] == pytest.approx(case["weight_ce"] * case["ce"], rel=LOSS_TOLERANCE)
    assert parts["kl"] == pytest.approx(case["weight_kl"] * case["kl"], rel=LOSS_TOLERANCE)
    assert total == pytest.approx(case["loss"], rel=LOSS_TOLERANCE)
    check_gradients(model, case)
    check_adapter_gradients(model, case)


def test_states_are_all_that_hide_something(case):
    sequences = sequences_of_case(case)
    for row, n_states in enumerate(case["states_in_record"]):
        # the last of the record's states shows all
        drawn = {
            draw_states(sequences, torch.full((len(sequences.ids),), u / 400))[row].item() for u in range(400)
        }
        assert drawn == set(range(n_states - 1))
