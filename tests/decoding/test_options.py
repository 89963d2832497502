"""Suppression, guidance, temperature, nucleus, stop strings; and decisions that float32 cannot make."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from fakes.decoding_rules import RULES
from fakes.decoding_students import END, MASK, VOCABULARY, FakeStudent, TinyTransformer, scripted
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.decoding import DecodeSettings, Sampling, Threshold, TopK, decode, proposals
from trims_core.errors import ConfigError

SLOW = DecodeSettings(TopK(4), 4, 4, False)


def _two_way(first: list[int], second: list[int]) -> FakeStudent:
    """Prefers `first`, and `second` where that is ruled out."""

    def logits_of(ids_BL: torch.Tensor) -> torch.Tensor:
        logits_BLV = torch.zeros(*ids_BL.shape, VOCABULARY)
        for place, (one, two) in enumerate(zip(first, second, strict=True)):
            logits_BLV[:, ids_BL.shape[1] - len(first) + place, two] = 6.0 + place
            logits_BLV[:, ids_BL.shape[1] - len(first) + place, one] = 9.0 + place
        return logits_BLV

    return FakeStudent(logits_of)


def test_a_suppressed_token_is_never_proposed_and_has_no_share_of_the_probability() -> None:
    student = _two_way([END, 2, END, 4], [1, 3, 5, 6])
    (found,) = decode(student, [[1]], replace(SLOW, sampling=Sampling(suppress_ids=frozenset({END}))))
    assert found.token_ids == [1, 2, 5, 4]
    assert found.confidence[0] == pytest.approx(math.exp(6) / (math.exp(6) + VOCABULARY - 2), rel=1e-5)


def test_a_token_suppressed_at_the_beginning_is_revealed_last() -> None:
    student = _two_way([END, 2, END, 4], [1, 3, 5, 6])
    sampling = Sampling(begin_suppress_ids=frozenset({END}))
    (found,) = decode(student, [[1]], replace(SLOW, sampling=sampling))
    assert found.token_ids == [END, 2, END, 4]
    assert found.reveal_step == [2, 1, 3, 0]
    assert (found.confidence[0], found.confidence[2]) == (0.0, 0.0)
    (free,) = decode(student, [[1]], SLOW)
    assert free.reveal_step == [3, 2, 1, 0]


def test_guidance_moves_logits_away_from_those_without_a_prompt() -> None:
    def logits_of(ids_BL: torch.Tensor) -> torch.Tensor:
        logits_BLV = torch.zeros(*ids_BL.shape, VOCABULARY)
        seen_B = (ids_BL[:, :1] == 9).float()
        logits_BLV[..., 3] = 2.0
        logits_BLV[..., 4] = 1.0 + 0.6 * seen_B
        return logits_BLV

    student = FakeStudent(logits_of)
    (plain,) = decode(student, [[9]], SLOW)
    (guided,) = decode(student, [[9]], replace(SLOW, sampling=Sampling(guidance=1.0)))
    assert (plain.token_ids, guided.token_ids) == ([3] * 4, [4] * 4)
    assert guided.n_forwards == 4
    student.shapes.clear()
    decode(student, [[9]], replace(SLOW, sampling=Sampling(guidance=1.0)))
    assert len(student.shapes) == 8


def test_a_temperature_draws_like_the_softmax_and_keeps_the_plain_confidence() -> None:
    height = math.log(VOCABULARY - 2)  # as probable as all others together, but for [MASK]
    student = scripted([7] * 8, confident=[height] * 8)
    wanted = DecodeSettings(Threshold(1e-6), 8, 8, False, 64, sampling=Sampling(temperature=1.0, seed=1))
    decoded = decode(student, [[1]] * 200, wanted)
    share = sum(item.token_ids.count(7) for item in decoded) / (8 * 200)
    assert share == pytest.approx(0.5, abs=0.05)
    assert all(MASK not in item.token_ids for item in decoded)
    probabilities = {round(value, 4) for item in decoded for value in item.confidence if value is not None}
    total = math.exp(height) + VOCABULARY - 1
    assert probabilities == {round(math.exp(height) / total, 4), round(1 / total, 4)}


def test_draws_belong_to_the_seed_and_the_sequence_and_not_to_the_batch() -> None:
    student = TinyTransformer(seed=3)
    prompts = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    wanted = DecodeSettings(Threshold(0.3), 8, 4, False, 1, sampling=Sampling(temperature=0.8, seed=5))
    alone = decode(student, prompts, wanted)
    together = decode(student, prompts, replace(wanted, batch_size=3))
    assert [item.token_ids for item in alone] == [item.token_ids for item in together]
    other = decode(student, prompts, replace(wanted, sampling=Sampling(temperature=0.8, seed=6)))
    assert [item.token_ids for item in alone] != [item.token_ids for item in other]


def test_a_nucleus_and_top_k_keep_only_probable_tokens() -> None:
    student = _two_way([1, 2, 3, 4], [5, 6, 7, 8])
    for sampling in (Sampling(temperature=3.0, top_k=2), Sampling(temperature=3.0, top_p=0.9)):
        decoded = decode(student, [[1]] * 50, replace(SLOW, sampling=sampling))
        drawn = {token for item in decoded for token in item.token_ids}
        assert drawn <= set(range(1, 9))
        assert drawn & {1, 2, 3, 4}


def test_noise_is_drawn_for_as_many_sequences_as_the_head_takes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = DecodeSettings(Threshold(0.3), 8, 8, False, 6, sampling=Sampling(temperature=0.8, seed=5))
    prompts = [[i + 1] * (i + 1) for i in range(6)]
    whole = decode(TinyTransformer(seed=3), prompts, wanted)
    rows: list[int] = []

    def counting(
        logits_NV: torch.Tensor, mask_id: int, noise_NV: torch.Tensor, sampling: Sampling
    ) -> torch.Tensor:
        assert noise_NV.untyped_storage().nbytes() == noise_NV.numel() * 8
        rows.append(len(noise_NV))
        return chosen(logits_NV, mask_id, noise_NV, sampling)

    chosen = proposals._chosen
    monkeypatch.setattr(proposals, "_chosen", counting)
    monkeypatch.setitem(proposals._HEAD_LOGITS, "cpu", 16 * VOCABULARY)
    parts = decode(TinyTransformer(seed=3), prompts, wanted)
    assert max(rows) == 16
    assert [item.token_ids for item in parts] == [item.token_ids for item in whole]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("limit", [{"top_k": 1}, {"top_p": 0.9}], ids=["top_k", "top_p"])
def test_a_nucleus_that_the_mask_fills_alone_leaves_the_likeliest_other_token(
    limit: dict[str, float], temperature: float
) -> None:
    def logits_of(ids_BL: torch.Tensor) -> torch.Tensor:
        logits_BLV = torch.zeros(*ids_BL.shape, VOCABULARY)
        logits_BLV[..., MASK], logits_BLV[..., 7] = 8.0, 5.0
        return logits_BLV

    sampling = Sampling(temperature=temperature, **limit)
    (found,) = decode(FakeStudent(logits_of), [[1]], replace(SLOW, sampling=sampling))
    assert found.token_ids == [7] * 4
    assert found.confidence == [pytest.approx(1 / (1 + math.exp(3)), rel=1e-5)] * 4


def test_tempered_confidence_is_that_of_the_softmax_at_the_temperature() -> None:
    sampling = Sampling(temperature=0.5, top_k=1, tempered_confidence=False)
    (plain,) = decode(scripted([7], [2.0]), [[1]], DecodeSettings(TopK(1), 1, 1, sampling=sampling))
    assert plain.confidence[0] == pytest.approx(1.0)  # top_k leaves one token
    sampling = Sampling(temperature=1e-6, tempered_confidence=True)
    (cold,) = decode(scripted([7], [2.0]), [[1]], DecodeSettings(TopK(1), 1, 1, sampling=sampling))
    assert cold.confidence[0] == pytest.approx(1.0)
    (warm,) = decode(
        scripted([7], [2.0]),
        [[1]],
        DecodeSettings(TopK(1), 1, 1, sampling=replace(sampling, temperature=2.0, top_k=None, seed=3)),
    )
    token, confidence = warm.token_ids[0], warm.confidence[0]
    total = math.e + VOCABULARY - 1
    assert confidence == pytest.approx((math.e if token == 7 else 1) / total, rel=1e-5)


class _Letters:
    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(chr(96 + token) for token in ids)


def test_a_stop_string_ends_a_sequence_where_its_last_token_is() -> None:
    student = scripted([1, 2, 3, 4, 5, 6], confident=[9.0, 8.0, 7.0, 6.0, 5.0, 4.0])
    student.tokenizer = _Letters()
    wanted = DecodeSettings(TopK(6), 6, 6, stop_strings=("cd", "zz"))
    (found,) = decode(student, [[1]], wanted)
    assert (found.n_tokens, found.finished, found.n_forwards) == (4, True, 4)
    assert found.token_ids == [1, 2, 3, 4, MASK, MASK]
    (all_at_once,) = decode(student, [[1]], replace(wanted, rule=Threshold(0.01)))
    assert (all_at_once.n_tokens, all_at_once.n_forwards) == (4, 1)


def test_a_special_token_as_a_stop_string_is_refused_because_texts_have_none() -> None:
    student = scripted([1, 2, 3, 4])
    student.tokenizer = _Letters()
    student.tokenizer.all_special_tokens = ["<|im_start|>"]
    with pytest.raises(ConfigError, match=r"'<\|im_start\|>' is a special token"):
        decode(student, [[1]], replace(SLOW, stop_strings=("x", "<|im_start|>")))


def test_the_surest_is_found_among_probabilities_that_float32_rounds_to_one() -> None:
    heights = [30.0, 33.0, 31.0, 32.0]
    (found,) = decode(scripted([1, 2, 3, 4], heights), [[1]], SLOW)
    assert set(found.confidence) == {1.0}
    assert found.reveal_step == [3, 0, 2, 1]


def test_entropy_is_recorded_at_the_reveal() -> None:
    (found,) = decode(scripted([7], confident=[2.0]), [[1]], DecodeSettings(TopK(1), 1, 1, False))
    total = math.exp(2.0) + VOCABULARY - 1
    expected = math.log(total) - 2.0 * math.exp(2.0) / total
    assert found.entropy == [pytest.approx(expected, rel=1e-5)]


def test_every_forward_is_shown_to_who_watches() -> None:
    seen: list[dict[int, list[int]]] = []
    student = scripted([1, 2], confident=[9.0, 8.0])
    decode(student, [[1]], DecodeSettings(TopK(2), 2, 2), watch=lambda now: seen.append(dict(now)))
    assert seen == [{0: [1, MASK]}, {0: [1, 2]}]


@given(rule=st.sampled_from(sorted(RULES)), height=st.floats(-1e30, 1e30), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_no_rule_follows_a_model_that_loves_the_mask_or_runs_for_ever(
    rule: str, height: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def logits_of(ids_BL: torch.Tensor) -> torch.Tensor:
        logits_BLV = torch.randn(*ids_BL.shape, VOCABULARY, generator=generator)
        logits_BLV[..., MASK] = height
        return logits_BLV

    block_length = 16 if rule.startswith("dream") else 8
    student = FakeStudent(logits_of)
    (found,) = decode(student, [[1, 2]], DecodeSettings(RULES[rule], 16, block_length, False))
    assert MASK not in found.token_ids
    assert found.n_forwards == len(student.shapes) <= 16
