"""Every rule and option of the settings reaches the decoder, and undefined pairs are refused."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from fakes.decoding_checkpoint import VOCABULARY
from fakes.parrot import EOS, EOT, Parrot

from trims_core.config import StudentConfig
from trims_core.decoding import (
    Ass,
    DreamThreshold,
    EntropyThreshold,
    Eoser,
    Factor,
    MultiBlock,
    Pipelined,
    RevealRule,
    Sampling,
    Threshold,
    TopK,
)
from trims_core.decoding.from_settings import sampling_for
from trims_core.decoding_sections import SamplingConfig
from trims_core.errors import ConfigError
from trims_core.generation.named_rules import RULES
from trims_core.points import MEANINGS, RuleName, parallelism_order, point_text
from trims_core.settings import parse_config
from trims_core.sweep.cells import grid
from trims_core.sweep.rules import check_settings, decode_settings
from trims_core.sweep.settings import CellSettings, SweepSettings, cell_settings, sweep_settings
from trims_core.sweep_sections import SweepConfig

RAW = {"tasks": {"demo": {"benchmark": "demo"}}, "gen_length": 32, "block_length": 8}


def sweep(**settings: Any) -> SweepSettings:
    """A tuned model's sweep."""
    config = SweepConfig.model_validate({**RAW, **settings})
    return sweep_settings(config, StudentConfig(model="x"), None, tuned=True)


def cells(chosen: SweepSettings) -> list[CellSettings]:
    """What decoding each of its cells reads."""
    return [cell_settings(chosen, cell.task, cell.cache, cell.threshold) for cell in grid(chosen)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Threshold(0.5)),
        ({"rule": "factor"}, Factor(0.5)),
        ({"rule": "factor_compat"}, Factor(0.5, compat=True)),
        ({"rule": "entropy"}, EntropyThreshold(0.5)),
        ({"rule": "multi_block", "multi_block_add": 0.25}, MultiBlock(0.5, add=0.25)),
        ({"rule": "pipelined", "multi_block_add": 0.25}, Pipelined(0.5)),
        (
            {"rule": "pipelined", "pipeline_add": 0.3, "pipeline_activate": 0.6},
            Pipelined(0.5, add=0.3, activate=0.6),
        ),
        (
            {"rule": "dream_official", "dream_steps": 8, "block_length": 32},
            DreamThreshold(0.5, 8),
        ),
    ],
)
def test_a_rules_name_gives_that_rule_at_the_threshold(
    settings: dict[str, Any], expected: RevealRule
) -> None:
    chosen = sweep(thresholds=[0.5], **settings)
    one, point = (decode_settings(cell, Sampling()).rule for cell in cells(chosen))
    assert one == TopK(32)
    assert point == expected
    check_settings(chosen)


@pytest.mark.parametrize(
    ("settings", "number", "expected"),
    [
        ({"rule": "steps"}, 8, TopK(8)),
        ({"rule": "eoser"}, 8, Eoser(TopK(8), 0.4)),
        ({"rule": "eoser", "gamma_min": 0.2}, 8, Eoser(TopK(8), 0.2)),
        ({"rule": "ass"}, 5, Ass()),
        ({"rule": "eoser_ass"}, 5, Eoser(Ass(), 0.01)),
        ({"rule": "eoser_ass", "gamma_min": 0.2}, 5, Eoser(Ass(), 0.2)),
    ],
)
def test_a_rule_with_a_fixed_number_of_forwards_takes_that_number(
    settings: dict[str, Any], number: int, expected: RevealRule
) -> None:
    chosen = sweep(thresholds=[number], **settings)
    one, point = (decode_settings(cell, Sampling()).rule for cell in cells(chosen))
    assert (one, point) == (TopK(32), expected)
    check_settings(chosen)


def test_every_rule_of_the_settings_has_a_constructor_and_a_meaning() -> None:
    assert set(MEANINGS) == set(get_args(RuleName)) <= set(RULES)


def test_cache_lengths_and_stop_strings_reach_the_decoder() -> None:
    chosen = sweep(cache="prefix", stop_strings=["\n\n"], stop_at_end=False, batch_size=3)
    found = decode_settings(cells(chosen)[1], Sampling(seed=3))
    assert (found.cache.name, found.stop_strings, found.stop_at_end) == ("prefix", ("\n\n",), False)
    assert (found.gen_length, found.block_length, found.batch_size) == (32, 8, 3)
    assert found.sampling == Sampling(seed=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"thresholds": [0.5, 1.5, 0.0]}, "thresholds 1.5, 0 with rule threshold: expected a probability"),
        ({"rule": "entropy", "thresholds": [-1.0]}, "thresholds -1 with rule entropy: expected 0 nats"),
        ({"rule": "factor", "thresholds": [0.0]}, "thresholds 0 with rule factor: expected a number above 0"),
        ({"rule": "entropy"}, "rule entropy without thresholds"),
        ({"rule": "multi_block", "thresholds": [0.5], "cache": "dual"}, "rule multi_block with cache dual"),
        (
            {"rule": "multi_block", "thresholds": [0.5], "compare_caches": "prefix"},
            "rule multi_block with cache prefix",
        ),
        ({"sampling": {"guidance": 1.0}, "cache": "dual"}, "sampling.guidance with cache dual"),
        (
            {"rule": "entropy", "thresholds": [0.5], "sampling": {"begin_suppress": ["eos"]}},
            "sampling.begin_suppress with rule entropy",
        ),
        ({"rule": "steps", "thresholds": [4.5]}, "thresholds 4.5 with rule steps: expected a whole number"),
        ({"rule": "eoser", "thresholds": [0]}, "thresholds 0 with rule eoser: expected a whole number of"),
        ({"rule": "steps"}, "rule steps without thresholds"),
        (
            {"rule": "steps", "thresholds": [4, 6]},
            "6 forwards with rule steps on 32 positions in 4 blocks of 8: expected a multiple of 4 between 4",
        ),
        ({"rule": "eoser", "thresholds": [36]}, "36 forwards with rule eoser on 32 positions in 4 blocks"),
        ({"rule": "steps", "thresholds": [2]}, "2 forwards with rule steps on 32 positions in 4 blocks"),
        ({"rule": "ass", "thresholds": [4]}, "4 forwards with rule ass on 32 positions: expected 5, as many"),
        (
            {"rule": "eoser_ass", "thresholds": [6]},
            "6 forwards with rule eoser_ass on 32 positions: expected 5",
        ),
        (
            {"rule": "ass", "thresholds": [1], "gen_length": 1, "block_length": 1},
            "as its steps of 1, 2, 4, … positions take (⌊log2 1⌋); the canvas needs at least 2",
        ),
        ({"rule": "eoser", "thresholds": [8], "gamma_min": 1.5}, "sweep.gamma_min"),
        ({"rule": "dream_official", "thresholds": [0.9], "dream_steps": 8}, "set block_length to gen_length"),
        (
            {"rule": "dream_official", "thresholds": [0.9], "cache": "dual", "compare_caches": ["none"]},
            "rule dream_official with cache none: set block_length to gen_length (32)",
        ),
    ],
)
def test_what_no_decoding_is_defined_for_is_refused_in_the_settings(
    settings: dict[str, Any], message: str
) -> None:
    minimal = {"corpus": {"path": "x"}, "scores": {"model": "x"}, "student": {"model": "x"}, "name": "x"}
    with pytest.raises(ConfigError) as refusal:
        parse_config({**minimal, "sweep": {**RAW, **settings}})
    assert message in str(refusal.value)


def test_what_the_decoder_refuses_is_told_with_the_cell() -> None:
    chosen = sweep(rule="dream_official", thresholds=[0.9], cache="dual")
    chosen = chosen.model_copy(update={"caches": ("none",)})
    with pytest.raises(ConfigError, match=r"sweep, demo at threshold 0\.9: dream_official without cache"):
        check_settings(chosen)


def test_points_are_named_and_ordered_as_their_rule_means_them() -> None:
    assert point_text("factor", 1.5) == "factor 1.5"
    assert point_text("multi_block", 0.4) == "entropy 0.4 nats"
    assert point_text("steps", 1) == "1 forward"
    assert point_text("eoser_ass", 6.0) == "6 forwards"
    assert point_text("entropy", None) == "one token per forward"
    by_confidence = sorted([0.3, None, 0.9], key=lambda t: parallelism_order("threshold", t))
    by_entropy = sorted([0.3, None, 0.9], key=lambda t: parallelism_order("entropy", t))
    assert (by_confidence, by_entropy) == ([None, 0.9, 0.3], [None, 0.3, 0.9])
    by_forwards = sorted([4, None, 16, 8], key=lambda t: parallelism_order("steps", t))
    assert by_forwards == [None, 16, 8, 4]


@pytest.mark.parametrize("tokens", [["<|eot_id|>", EOS], ["eot", "eos"]])
def test_tokens_to_suppress_are_found_by_name_text_and_id(tokens: list[str | int]) -> None:
    config = SamplingConfig.model_validate({"suppress": tokens, "begin_suppress": tokens[:1]})
    found = sampling_for(config, Parrot("x"), "sweep")
    assert found == Sampling(suppress_ids=frozenset({EOT, EOS}), begin_suppress_ids=frozenset({EOT}))


@pytest.mark.parametrize("field", ["suppress", "begin_suppress"])
@pytest.mark.parametrize("token", ["<|nowhere|>", VOCABULARY])
def test_a_token_the_student_does_not_have_is_named(field: str, token: str | int) -> None:
    config = SamplingConfig.model_validate({field: ["<|eot_id|>", token]})
    message = rf"sweep\.sampling\.{field}: the student has no token {re.escape(repr(token))};"
    with pytest.raises(ConfigError, match=message):
        sampling_for(config, Parrot("x"), "sweep")
