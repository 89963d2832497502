"""TABOM against its published program's sets, losses and gradients, and what its own rules promise."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

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

from trims_core.training.methods import tabom
from trims_core.training.methods.tabom import Tabom, allowed_cuts, pick
from trims_core.training.methods.terms import reveal_steps
from trims_core.variants import TabomVariant

NAMES = (
    "llada_maths_32",
    "dream_maths_32",
    "llada_code_ties",
    "dream_code_nonltr",
    "llada_batch2_short",
    "dream_batch2_left",
    "llada_all_short",
    "llada_never_revealed_W_lt_M",
    "dream_nopad_W_gt_M",
    "llada_no_order_cut0",
    "llada_cut_upper",
    "dream_rank_off",
)


def variant_of(case, **changes):
    return TabomVariant(
        window=case["M"],
        rank_window=case["W"],
        rank_weight=0.0 if case["name"] == "dream_rank_off" else case["rank_weight"],
        margin=case["margin"],
        cuts="out_of_order" if case["non_ltr_cut"] else "any",
        **{"compat": True, **changes},
    )


def rows_of(case):
    """A case's rows, padded on the right instead of on the left, and how far each moved."""
    moved = [attention.count(0) for attention in case["prompt_attention"]]
    prompts = [prompt[n:] for prompt, n in zip(case["prompt_ids"], moved, strict=True)]
    steps = [
        list(range(len(answer))) if step is None else step
        for answer, step in zip(case["response_ids"], case["reveal_step"], strict=True)
    ]
    if not case["include_padding"]:
        # such pads are masked and in no loss, as what is never revealed
        steps = [
            [-1 if token == case["pad_id"] else step for token, step in zip(*row, strict=True)]
            for row in zip(case["response_ids"], steps, strict=True)
        ]
    rows = zip(prompts, case["response_ids"], moved, strict=True)
    ids = [prompt + answer + [case["pad_id"]] * n for prompt, answer, n in rows]
    sequences = sequences_of(ids, [len(prompt) for prompt in prompts], reveal_step=steps)
    alive_BL = torch.arange(len(ids[0])) < len(ids[0]) - torch.tensor(moved)[:, None]
    return replace(sequences, content_BL=sequences.content_BL & alive_BL), moved


def made(case, **changes):
    """A case's method, its batch at the case's cuts, and how far its rows moved."""
    sequences, moved = rows_of(case)
    method = Tabom(variant_of(case, **changes), context_of(case))
    cut_B = torch.tensor([-1 if cut is None else cut for cut in case["cut"]])
    return method, method.canvases(sequences, cut_B), moved


@pytest.fixture(params=NAMES)
def case(shared_data, request):
    return cases_of(shared_data, "tabom")[request.param]


@pytest.fixture
def recorded_order(case, monkeypatch):
    """Equal steps in the order that the sort of the program's machine gave them."""

    def key_of(step_BL, ranked_BL):
        key_BL = torch.zeros_like(step_BL)
        for row, order in enumerate(case.get("rank_order_positions", ())):
            start = case["prompt_attention"][row].count(1)
            assert positions_of(ranked_BL)[row] == sorted(start + place for place in order)
            for number, place in enumerate(order):
                key_BL[row, start + place] = number
        return key_BL

    monkeypatch.setattr(tabom, "published_order", key_of)


def test_every_case_is_tested(shared_data):
    assert tuple(cases_of(shared_data, "tabom")) == NAMES


def test_cuts_are_the_published_ones(case):
    sequences, _ = rows_of(case)
    allowed_BS = allowed_cuts(sequences, variant_of(case))
    draws = iter(case["draws"])
    for row, cut in enumerate(case["cut"]):
        allowed = allowed_BS[row].nonzero()[:, 0].tolist()
        if cut is None:
            assert allowed == []
            continue
        kind, *asked, answer = next(draws)
        assert allowed == (list(range(asked[0], asked[1] + 1)) if kind == "randint" else asked[0])
        place = (allowed.index(answer) + 0.5) / len(allowed)
        assert pick(allowed_BS, torch.full((len(case["cut"]),), place))[row].item() == cut


def test_sets_are_the_published_ones(case, recorded_order):
    _, batch, moved = made(case)
    for row, masked in enumerate(case.get("masked_input", ())):
        assert batch.view.noisy_BL[row].tolist() == masked[moved[row] :] + [case["pad_id"]] * moved[row]
    found = positions_of(batch.view.scored_BL)
    assert [[place + moved[row] for place in places] for row, places in enumerate(found)] == case[
        "ce_positions"
    ]
    if "pairs_total" in case:
        assert batch.extras["before_BWW"].sum((1, 2)).tolist() == case["pairs_total"]
        strict = made(case, compat=False)[1].extras["before_BWW"].sum((1, 2))
        assert (torch.tensor(case["pairs_total"]) - strict).tolist() == case["pairs_equal_step"]


def test_tokens_of_one_step_are_ranked_as_the_program_ranked_them(case):
    if not all(case.get("order_is_stable", ())):
        pytest.skip("equal steps stand as an unstable sort leaves them, which is the machine's own matter")
    sequences, _ = rows_of(case)
    for row, order in enumerate(case.get("rank_order_positions", ())):
        start = case["prompt_attention"][row].count(1)
        ranked_BL = torch.zeros_like(sequences.content_BL)
        ranked_BL[row, [start + place for place in order]] = True
        key_BL = tabom.published_order(reveal_steps(sequences), ranked_BL)
        assert [key_BL[row, start + place].item() for place in order] == list(range(len(order)))


def test_losses_and_gradients_are_the_published_ones(shared_data, case, recorded_order):
    student, model = student_of(shared_data, case)
    method, batch, _ = made(case)
    total, parts = back_through(method.losses(student, batch, totals_of([batch])))
    assert total == pytest.approx(case["loss"], rel=LOSS_TOLERANCE, abs=1e-7)
    if case.get("returned_without_backward"):
        assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)
        return
    assert parts["content"] + parts["ends"] == pytest.approx(case["ce"], rel=LOSS_TOLERANCE)
    weight = case["rank_weight"]
    assert parts.get("rank", 0.0) / weight == pytest.approx(case["rank"], rel=LOSS_TOLERANCE)
    check_gradients(model, case)


def test_pairs_of_one_step_do_not_count_unless_asked_for(shared_data, case):
    if "restated_loss_strict_pairs" not in case:
        pytest.skip("nothing is ranked")
    student, _ = student_of(shared_data, case)
    method, batch, _ = made(case, compat=False)
    total, parts = back_through(method.losses(student, batch, totals_of([batch])))
    assert total == pytest.approx(case["restated_loss_strict_pairs"], rel=LOSS_TOLERANCE)
    assert parts["rank"] / case["rank_weight"] == pytest.approx(
        case["restated_rank_strict_pairs"], rel=LOSS_TOLERANCE
    )


def test_one_loss_over_two_micro_batches_is_the_loss_over_both(shared_data):
    case = cases_of(shared_data, "tabom")["dream_batch2_left"]
    student, _ = student_of(shared_data, case)
    method, *_ = made(case, compat=False)
    sequences, _ = rows_of(case)
    halves = [method.canvases(of_each(sequences, [row]), torch.tensor([case["cut"][row]])) for row in (0, 1)]
    totals = totals_of(halves)
    split = sum(back_through(method.losses(student, half, totals))[0] for half in halves)
    assert split == pytest.approx(case["restated_loss_strict_pairs"], rel=LOSS_TOLERANCE)


def slow_cuts(steps, variant):
    """The rule of the docstring for one answer, said plainly."""
    known = [step for step in steps if step >= 0]
    if not known:
        return []
    last = max(known) - variant.window + (0 if variant.compat else 1)
    if not variant.compat:
        last = max(last, 0)
    cuts = range(last + 1)
    if variant.cuts == "any":
        return list(cuts)
    late = [10_000 if step < 0 else step for step in steps]
    jumped = {step for left, step in pairwise(late) if step < left}
    return [cut for cut in cuts if cut in jumped]


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("cuts", ["any", "out_of_order"])
def test_sets_follow_the_rule_said_plainly(cuts, compat):
    context, sequences = rollout_context(), rollout_sequences(n_rows=24, tokens_per_step=3, never=0.1)
    variant = TabomVariant(window=4, rank_window=3, cuts=cuts, compat=compat)
    method = Tabom(variant, context)
    batch, allowed_BS = method.batch(sequences), allowed_cuts(sequences, variant)
    cut_B = pick(allowed_BS, sequences.draws("train").cut_B)
    assert -1 in cut_B.tolist() or not compat
    step_BL, view = sequences.reveal_BL.long(), batch.view
    for row, cut in enumerate(cut_B.tolist()):
        content_L = sequences.content_BL[row]
        steps = step_BL[row, content_L].tolist()
        assert allowed_BS[row].nonzero()[:, 0].tolist() == slow_cuts(steps, variant)
        visible = [0 <= step < cut for step in steps]
        assert (view.noisy_BL[row, content_L] != context.mask_id).tolist() == visible
        scored = [cut >= 0 and cut <= step < cut + 4 for step in steps]
        assert view.scored_BL[row, content_L].tolist() == scored
        ranked = [step for step in steps if cut >= 0 and cut <= step < cut + 3]
        n = len(ranked)
        pairs = n * (n - 1) // 2 if compat else sum(a < b for a in ranked for b in ranked)
        assert batch.extras["before_BWW"][row].sum().item() == pairs


def test_the_last_step_is_learned_and_a_short_answer_too():
    sequences = sequences_of([[1, 2, 3, 4, 5]] * 2, [1, 1], reveal_step=[[3, 1, 0, 2], [1, 0, 0, 1]])
    assert allowed_cuts(sequences, TabomVariant(window=2)).tolist() == [[True] * 3, [True, False, False]]
    assert allowed_cuts(sequences, TabomVariant(window=2, compat=True)).tolist() == [[True] * 2, [False] * 2]
    assert allowed_cuts(sequences, TabomVariant(window=9)).tolist() == [[True]] * 2


def test_cuts_are_drawn_alike():
    allowed_BS = torch.tensor([[True, False, True, True]]).expand(3000, 4)
    counts = pick(allowed_BS, torch.rand(3000, generator=torch.Generator().manual_seed(0))).bincount(
        minlength=4
    )
    assert counts[1] == 0 and (counts[[0, 2, 3]] > 900).all()


def test_ends_are_hidden_scored_and_never_ranked():
    context, sequences = rollout_context(pads="hidden"), rollout_sequences(n_ends=3)
    batch = Tabom(TabomVariant(window=4, rank_window=4), context).batch(sequences)
    assert (batch.view.noisy_BL[sequences.end_BL] == context.mask_id).all()
    assert batch.view.scored_BL[sequences.end_BL].all()
    assert not (batch.view.scored_BL & ~sequences.attended_BL).any()
    assert (batch.view.noisy_BL == sequences.target_BL)[~sequences.content_BL & ~sequences.end_BL].all()
    without = Tabom(TabomVariant(window=4, rank_window=4), context).batch(
        replace(sequences, end_BL=torch.zeros_like(sequences.end_BL))
    )
    assert torch.equal(without.extras["before_BWW"], batch.extras["before_BWW"])


def test_a_batch_without_loss_takes_part():
    sequences = rollout_sequences(n_ends=0)
    nothing = replace(sequences, reveal_BL=torch.full_like(sequences.reveal_BL, -1))
    method = Tabom(TabomVariant(certainty=1.0), rollout_context())
    batch = method.batch(nothing)
    assert batch.counts["n_without_cut"] == len(nothing.ids)
    check_nothing_to_learn(method, batch)


def test_draws_do_not_depend_on_batch_mates():
    sequences, method = rollout_sequences(), Tabom(TabomVariant(window=4), rollout_context())
    together, alone = method.batch(sequences), method.batch(of_each(sequences, [2]))
    assert torch.equal(together.view.noisy_BL[2:3], alone.view.noisy_BL)
    assert torch.equal(together.view.scored_BL[2:3], alone.view.scored_BL)
    assert len({tuple(row) for row in positions_of(together.view.scored_BL)}) > 1


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_loss_falls_in_a_few_steps(family):
    variant = TabomVariant(window=4, rank_window=4, certainty=0.1, certainty_ramp=0.0)
    check_learns(lambda context: Tabom(variant, context), family, {"content", "ends", "rank", "certainty"})
