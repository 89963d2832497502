"""What holds against any model and any rule: [MASK] is never a prediction, and decoding ends."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from fakes.decoding_students import MASK, VOCABULARY, FakeStudent, noisy
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.decoding import DecodeSettings, Proposals, RevealRule, Threshold, TopK, decode
from trims_core.errors import SweepError


def _mask_lover(height: float) -> FakeStudent:
    def logits_of(ids_BL: torch.Tensor) -> torch.Tensor:
        logits_BLV = torch.zeros(*ids_BL.shape, VOCABULARY)
        logits_BLV[..., MASK] = height
        return logits_BLV

    return FakeStudent(logits_of)


class _Lazy(RevealRule):
    """Reveals nothing."""

    def choose(self, proposals: Proposals) -> torch.Tensor:
        return torch.zeros_like(proposals.candidate_BG)


class _Greedy(_Lazy):
    """Wants every position of the canvas, revealed ones and later blocks too."""

    def choose(self, proposals: Proposals) -> torch.Tensor:
        return torch.ones_like(proposals.candidate_BG)


@pytest.mark.parametrize("height", [1.0, 30.0, 1e30])
@pytest.mark.parametrize("rule", [Threshold(0.5), Threshold(1.0), TopK(6)], ids=["0.5", "1.0", "topk"])
def test_a_model_that_always_predicts_the_mask_is_never_followed(rule: RevealRule, height: float) -> None:
    student = _mask_lover(height)
    (found,) = decode(student, [[1, 2]], DecodeSettings(rule, 12, 6, False))
    assert MASK not in found.token_ids
    assert found.n_forwards == len(student.shapes) <= 12


def test_a_rule_that_reveals_nothing_still_ends_one_position_per_forward() -> None:
    (found,) = decode(noisy(0), [[1]], DecodeSettings(_Lazy(), 12, 4, False))
    assert found.n_forwards == 12
    assert MASK not in found.token_ids


def test_a_rule_cannot_reveal_later_blocks_or_change_what_is_revealed() -> None:
    (found,) = decode(noisy(0), [[1]], DecodeSettings(_Greedy(), 12, 4, False))
    assert found.reveal_step == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_are_an_error_that_says_so(value: float) -> None:
    student = FakeStudent(lambda ids_BL: torch.full((*ids_BL.shape, VOCABULARY), value))
    with pytest.raises(SweepError, match="non-finite logits at 4 of 4 masked positions"):
        decode(student, [[1]], DecodeSettings(Threshold(0.5), 8, 4))


@pytest.mark.parametrize("of_mask", [-torch.inf, 0.0])
@pytest.mark.parametrize("block_length", [1, 4])
def test_a_model_that_rules_out_everything_but_the_mask_is_an_error(
    of_mask: float, block_length: int
) -> None:
    def logits_of(ids_BL: torch.Tensor) -> torch.Tensor:
        logits_BLV = torch.full((*ids_BL.shape, VOCABULARY), -torch.inf)
        logits_BLV[..., MASK] = of_mask
        return logits_BLV

    message = f"non-finite logits at {block_length} of {block_length} masked positions"
    with pytest.raises(SweepError, match=message):
        decode(FakeStudent(logits_of), [[1]], DecodeSettings(TopK(4), 4, block_length))


def test_logits_outside_the_candidates_may_be_anything() -> None:
    def logits_of(ids_BL: torch.Tensor) -> torch.Tensor:
        logits_BLV = torch.zeros(*ids_BL.shape, VOCABULARY)
        logits_BLV[ids_BL != MASK] = torch.nan
        return logits_BLV

    (found,) = decode(FakeStudent(logits_of), [[1, 2]], DecodeSettings(TopK(4), 4, 4, False))
    assert MASK not in found.token_ids


def test_a_suppressed_vocabulary_is_allowed_as_long_as_one_token_is_left() -> None:
    def logits_of(ids_BL: torch.Tensor) -> torch.Tensor:
        logits_BLV = torch.full((*ids_BL.shape, VOCABULARY), -torch.inf)
        logits_BLV[..., 5] = 0.0
        return logits_BLV

    (found,) = decode(FakeStudent(logits_of), [[1]], DecodeSettings(Threshold(1.0), 4, 4, False))
    assert (found.token_ids, found.n_forwards, found.confidence) == ([5] * 4, 1, [1.0] * 4)


@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(0, 50),
    block_length=st.integers(1, 6),
    n_blocks=st.integers(1, 4),
    tau=st.floats(0.01, 1.0),
    n_prompts=st.integers(1, 5),
    batch_size=st.integers(1, 4),
    stop_at_end=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_logits_every_forward_reveals_something_and_all_is_accounted_for(
    seed: int,
    scale: float,
    block_length: int,
    n_blocks: int,
    tau: float,
    n_prompts: int,
    batch_size: int,
    stop_at_end: bool,
) -> None:
    gen_length = block_length * n_blocks
    student = noisy(seed, scale)
    prompts = [[1] * (i + 1) for i in range(n_prompts)]
    wanted = DecodeSettings(Threshold(tau), gen_length, block_length, stop_at_end, batch_size)
    decoded = decode(student, prompts, wanted)
    assert sum(rows for rows, _ in student.shapes) == sum(item.n_forwards for item in decoded)
    for item in decoded:
        assert item.n_forwards <= gen_length
        assert set(range(item.n_forwards)) == set(item.reveal_step) - {-1}
        for token, step, confidence in zip(item.token_ids, item.reveal_step, item.confidence, strict=True):
            assert (token == MASK) == (step == -1) == (confidence is None)
            assert confidence is None or 0 <= confidence <= 1.000001
        blocks = [item.reveal_step[i : i + block_length] for i in range(0, gen_length, block_length)]
        complete = [block for block in blocks if -1 not in block]
        assert all(max(a) < min(b) for a, b in pairwise(complete))
        assert stop_at_end or -1 not in item.reveal_step
