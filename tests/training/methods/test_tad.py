"""TAD against its published program's sets, losses and gradients, and what its own rules promise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes.methods import passes, tiny_student
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
from fakes.rollouts import (
    MASK_ID,
    check_learns,
    check_nothing_to_learn,
    of_each,
    positions_of,
    rollout_context,
    rollout_sequences,
)

from trims_core.errors import TrainingError
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
        ids, teacher, length = case["student_input_ids"][row], case["teacher_input_ids"][row], len(steps)
        first_hidden = next(i for i, step in enumerate(steps) if step < 0 or step >= state)
        start = ids.index(case["mask_id"]) - first_hidden
        places = range(len(teacher) - length, -1, -1)
        of_teacher = next(i for i in places if teacher[i : i + length] == ids[start : start + length])
        found.append((start, of_teacher, length))
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


def tad(family="llada", pads="hidden", **settings):
    """The method for rollouts of the tests' own."""
    return Tad(TadVariant(**settings), replace(rollout_context(family, pads), pad_id=62))


@pytest.mark.parametrize("tokens_per_step", [1, 3])
def test_near_is_what_the_next_steps_reveal_and_far_all_else_that_is_hidden(tokens_per_step):
    sequences = rollout_sequences(tokens_per_step=tokens_per_step, never=0.2, references=True)
    states = draw_states(sequences, sequences.draws("train").cut_B)
    batch = tad(window=2).batch(sequences)
    view, far_BL = batch.view, batch.extras["far_BL"]
    for row, state in enumerate(states.tolist()):
        for place in sequences.content_BL[row].nonzero()[:, 0].tolist():
            step = sequences.reveal_BL[row, place].item()
            near, far = state <= step < state + 2, step < 0 or step >= state + 2
            assert view.scored_BL[row, place] == (near or far) and far_BL[row, place] == far
            assert view.weight_BL[row, place] == near
            expected = MASK_ID if near or far else sequences.target_BL[row, place]
            assert view.noisy_BL[row, place] == expected
    assert torch.equal(view.scored_BL & ~sequences.content_BL, sequences.end_BL)
    assert not (far_BL & sequences.end_BL).any()
    n_far = int(far_BL.sum())
    assert batch.counts["n_far"] == n_far
    assert batch.counts["n_near"] == int((view.scored_BL & sequences.content_BL).sum()) - n_far


def test_what_was_never_revealed_is_far_however_wide_the_window():
    sequences = rollout_sequences(never=0.3, references=True)
    never_BL = sequences.content_BL & (sequences.reveal_BL < 0)
    batch = tad(window=10**6).batch(sequences)
    assert never_BL.any() and torch.equal(batch.extras["far_BL"], never_BL)


@pytest.mark.parametrize("pads", ["hidden", "standard", "none"])
def test_the_teacher_reads_its_own_prompt_and_the_same_behind_it(pads):
    sequences = rollout_sequences(never=0.1, references=True)
    batch = tad(pads=pads).batch(sequences)
    view, canvas = batch.view, batch.view.reference
    for row in range(len(sequences.ids)):
        prompt = [one for one in sequences.reference_BP[row].tolist() if one >= 0]
        live_L = sequences.attended_BL[row] & ~sequences.prompt_BL[row]
        behind = view.noisy_BL[row, live_L].tolist()
        n_live = len(prompt) + len(behind)
        assert canvas.noisy_BL[row, :n_live].tolist() == prompt + behind
        assert canvas.scored_BL[row].tolist() == (
            [False] * len(prompt)
            + view.scored_BL[row, live_L].tolist()
            + [False] * (canvas.noisy_BL.shape[1] - n_live)
        )
        seen = [place < n_live for place in range(canvas.noisy_BL.shape[1])]
        assert canvas.attention_BL[row].tolist() == seen


def test_states_are_equally_likely():
    steps, n = [0, 4, 4, 1, -1, 2, 0, 1, 3, 3], 1000
    sequences = sequences_of([list(range(12))] * n, [2] * n, reveal_step=[steps] * n)
    uniform_N = torch.arange(n) / n
    found_N = draw_states(sequences, uniform_N)
    assert found_N.bincount().tolist() == [200] * 5 and found_N.tolist() == sorted(found_N.tolist())


def test_an_answer_of_which_nothing_was_revealed_has_no_state_and_no_loss():
    sequences = rollout_sequences(references=True)
    nothing = replace(sequences, reveal_BL=torch.full_like(sequences.reveal_BL, -1))
    batch = tad().batch(nothing)
    assert batch.counts["n_without_state"] == len(sequences.ids)
    assert batch.counts["n_near"] == batch.counts["n_far"] == 0
    assert torch.equal(batch.view.scored_BL, sequences.end_BL)


def test_windows_are_the_familys_unless_set():
    found = [tad(family)._window for family in ("llada", "dream")]
    assert found == [8, 6] and tad("dream", window=3)._window == 3


def test_ends_and_revealed_tokens_are_read_as_the_rows_say_and_published_otherwise():
    sequences = rollout_sequences(references=True)
    sequences = replace(sequences, target_BL=sequences.target_BL.masked_fill(~sequences.prompt_BL, 62))
    shown_BL = sequences.content_BL & (sequences.reveal_BL < 3)
    states = torch.full((len(sequences.ids),), 3)
    for family in ("llada", "dream"):
        batch = tad(family).canvases(sequences, states)
        assert torch.equal(batch.attention_BL.bool(), sequences.attended_BL)
    published = tad("llada", compat=True).canvases(sequences, states)
    assert not published.attention_BL.bool()[shown_BL].any() and shown_BL.any()
    assert published.attention_BL.bool()[sequences.prompt_BL].all()
    published = tad("dream", compat=True).canvases(sequences, states)
    assert published.attention_BL is None and published.view.reference.attention_BL is None


def test_a_teacher_without_weight_is_not_asked():
    student, _ = tiny_student("llada")
    method, sequences = tad(kl_weight=0.0), rollout_sequences(never=0.2)
    batch = method.batch(sequences)
    (loss,) = method.losses(student, batch, totals_of([batch]))
    assert batch.view.reference is None and set(loss.parts) == {"content", "ends"}
    assert batch.counts["n_far"] == 0 and TadVariant(kl_weight=0.0).passes == 1 and TadVariant().passes == 2


def test_the_teacher_knows_what_the_student_does_not():
    student, _ = tiny_student("llada", adapted=True)
    sequences = rollout_sequences(references=True)
    own_BP = torch.full_like(sequences.reference_BP, -1)
    for row, start in enumerate(sequences.start_B.tolist()):
        own_BP[row, :start] = sequences.target_BL[row, :start]
    totals = []
    for given in (sequences, replace(sequences, reference_BP=own_BP)):
        batch = tad().batch(given)
        (loss,) = tad().losses(student, batch, totals_of([batch]))
        totals.append(loss.parts["kl"].item())
    # a fresh adapter changes nothing: behind the same prompt teacher and student agree
    assert totals[0] > 1e-5 and totals[1] == pytest.approx(0.0, abs=1e-7)
    assert passes(student, tad().losses(student, batch, totals_of([batch]))) == [(True, True)]


def test_examples_without_prompts_for_the_teacher_are_refused():
    with pytest.raises(TrainingError, match="reads prompts of its own"):
        tad().batch(rollout_sequences())


def test_micro_batches_add_up_to_the_whole_batch():
    sequences = rollout_sequences(n_rows=6, never=0.1, references=True)
    student, model = tiny_student("llada", adapted=True)
    torch.nn.init.normal_(next(w for name, w in model.named_parameters() if "lora_B" in name), std=0.3)
    method = tad(temperature=2.0, kl_weight=0.7)
    found = []
    for parts in ([range(6)], [range(2), range(2, 6)]):
        batches = [method.batch(of_each(sequences, rows)) for rows in parts]
        totals = replace(totals_of(batches), n_micro_batches=1)
        model.zero_grad()
        losses = [loss for batch in batches for loss in method.losses(student, batch, totals)]
        found.append((back_through(losses)[0], [weight.grad for weight in model.parameters()]))
    (one, gradients), (two, others) = found
    assert one == pytest.approx(two, rel=1e-5)
    for mine, theirs in zip(gradients, others, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_the_divergence_is_a_mean_over_far_tokens_in_the_contents_share():
    student, _ = tiny_student("llada", adapted=True)
    sequences = rollout_sequences(n_ends=6, references=True)
    method = tad(window=2, ce_weight=0.0, kl_weight=3.0, temperature=2.0)
    batch = method.batch(sequences)
    (loss,) = method.losses(student, batch, totals_of([batch]))
    rows = student.rows(batch, batch.view, reference=True, reference_temperature=2.0)
    share = batch.counts["n_content"] / (batch.counts["n_content"] + batch.counts["n_ends"])
    mean = rows.kl_M[batch.extras["far_BL"][batch.view.scored_BL]].mean().item()
    assert loss.parts["kl"].item() == pytest.approx(3 * 4 * share * mean, rel=1e-5) and mean > 0
    assert loss.parts["content"].item() == 0.0 < loss.parts["ends"].item()


def test_a_batch_without_loss_takes_part():
    sequences = rollout_sequences(n_ends=0, references=True)
    nothing = replace(sequences, reveal_BL=torch.full_like(sequences.reveal_BL, -1))
    method = tad(certainty=1.0)
    check_nothing_to_learn(method, method.batch(nothing), adapted=True)


def test_draws_do_not_depend_on_batch_mates():
    sequences = rollout_sequences(references=True)
    together = tad().batch(sequences).view
    for row in range(len(sequences.ids)):
        alone = tad().batch(of_each(sequences, [row])).view
        assert torch.equal(alone.noisy_BL, together.noisy_BL[[row]])
        width = alone.reference.noisy_BL.shape[1]
        assert torch.equal(alone.reference.noisy_BL, together.reference.noisy_BL[[row], :width])
        assert torch.equal(alone.reference.scored_BL, together.reference.scored_BL[[row], :width])


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_loss_falls_in_a_few_steps(family):
    variant = TadVariant(window=2, certainty=0.1, certainty_ramp=0.0)
    parts = {"content", "ends", "kl", "certainty"}
    check_learns(lambda context: Tad(variant, context), family, parts, adapted=True)
