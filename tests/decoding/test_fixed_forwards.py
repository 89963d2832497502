"""Rules with a fixed number of forwards, by name: that number exactly, and what their classes reveal."""

from __future__ import annotations

import math
from statistics import mode
from typing import Any

import pytest
import torch
from fakes.decoding_students import END, MASK, VOCABULARY, TinyTransformer, scripted

from trims_core.decoding import Ass, Decoded, DecodeSettings, Eoser, RevealRule, Sampling, TopK, decode
from trims_core.decoding.from_settings import rule_at
from trims_core.errors import ConfigError
from trims_core.points import RuleName

NAMED: list[tuple[RuleName, int, dict[str, Any], RevealRule, int, int]] = [
    ("steps", 8, {}, TopK(8), 24, 6),
    ("steps", 3, {}, TopK(3), 24, 24),
    ("eoser", 8, {"gamma_min": 0.01}, Eoser(TopK(8), 0.01), 24, 6),
    ("ass", 4, {}, Ass(), 24, 24),
    ("ass", 6, {}, Ass(), 64, 16),
    ("eoser_ass", 4, {}, Eoser(Ass(), 0.01), 24, 24),
    ("eoser_ass", 5, {"gamma_min": 0.3}, Eoser(Ass(), 0.3), 32, 8),
]


def answers(student: Any, rule: RevealRule, gen_length: int, block_length: int) -> list[Decoded]:
    """At temperature 1, of prompts of unequal lengths."""
    settings = DecodeSettings(
        rule, gen_length, block_length, stop_at_end=False, batch_size=2, sampling=Sampling(1.0, seed=3)
    )
    return decode(student, [[1, 2, 3], [4], [5, 6]], settings)


@pytest.mark.parametrize(("name", "number", "options", "expected", "gen", "block"), NAMED)
def test_a_named_rule_takes_its_number_of_forwards_and_reveals_what_its_class_does(
    name: RuleName, number: int, options: dict[str, Any], expected: RevealRule, gen: int, block: int
) -> None:
    rule = rule_at(name, float(number), gen, **options)
    assert rule == expected
    found = answers(TinyTransformer(), rule, gen, block)
    assert [one.n_forwards for one in found] == [number] * 3
    for one in found:
        assert {*one.reveal_step} == {*range(number)}
    again = answers(TinyTransformer(), expected, gen, block)
    assert [one.token_ids for one in found] == [one.token_ids for one in again]


def test_ascending_steps_reveal_twice_as_many_each_time_and_the_rest_at_last() -> None:
    (found,) = decode(TinyTransformer(), [[1]], DecodeSettings(rule_at("ass", 5, 40), 40, 8, False))
    assert [found.reveal_step.count(step) for step in range(5)] == [1, 2, 4, 8, 25]


@pytest.mark.parametrize("name", ["ass", "eoser_ass"])
@pytest.mark.parametrize("number", [1, 4, 6, 32])
def test_ascending_steps_refuse_another_number_than_their_own(name: RuleName, number: int) -> None:
    with pytest.raises(ConfigError, match=rf"{number} forwards with rule {name} on 32 positions: expected 5"):
        rule_at(name, number, 32)


def test_forwards_that_do_not_divide_over_the_blocks_are_refused() -> None:
    for name in ("steps", "eoser"):
        with pytest.raises(ConfigError, match="expected a multiple of 4 between 4 and 32"):
            DecodeSettings(rule_at(name, 6, 32), 32, 8).check()


@pytest.mark.parametrize("name", ["eoser", "eoser_ass"])
def test_what_is_kept_of_a_reveal_is_the_plain_prediction_at_temperature_one(name: RuleName) -> None:
    student, gen = TinyTransformer(seed=2), 16
    rule = rule_at(name, 4, gen, gamma_min=0.01)
    assert isinstance(rule, Eoser)
    settings = DecodeSettings(rule, gen, gen, False, sampling=Sampling(1.0, 1))
    first = decode(student, [[1, 2], [3]], settings)
    student.family.eos_id = mode(token for one in first for token in one.token_ids)
    found = decode(student, [[1, 2], [3]], settings)
    assert [one.reveal_step for one in found] != [one.reveal_step for one in first]
    ends = 0
    for prompt, one in zip([[1, 2], [3]], found, strict=True):
        for step in range(one.n_forwards):
            before = [
                token if order < step else MASK
                for token, order in zip(one.token_ids, one.reveal_step, strict=True)
            ]
            with torch.no_grad():
                hidden_BLD = student.hidden(torch.tensor([prompt + before]))
                logp_GV = student.head(hidden_BLD[0, len(prompt) :]).double().log_softmax(-1)
            for place in (place for place, order in enumerate(one.reveal_step) if order == step):
                kept, token = one.confidence[place], one.token_ids[place]
                assert kept is not None
                assert math.log(kept) == pytest.approx(float(logp_GV[place, token]), abs=1e-5)
                ends += token == student.family.eos_id
    assert ends > 1


def test_a_held_back_end_is_revealed_later_and_kept_as_sure_as_it_was() -> None:
    tokens, heights = [END, 1, 2, 3], [9.0, 5.0, 4.0, 3.0]
    plain, held = (
        decode(scripted(tokens, heights), [[1]], DecodeSettings(rule, 4, 4, False))[0]
        for rule in (rule_at("steps", 4, 4), rule_at("eoser", 4, 4, gamma_min=0.0))
    )
    assert plain.reveal_step[0] == 0
    assert held.reveal_step[0] > 0
    sure = 1 / (1 + (VOCABULARY - 1) * math.exp(-9.0))
    assert plain.confidence[0] == pytest.approx(sure, abs=1e-6)
    assert held.confidence[0] == pytest.approx(sure, abs=1e-6)
