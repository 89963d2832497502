"""Options by name: what a rule does not read is refused, texts are parsed by type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trims_core.decoding import (
    Ass,
    DreamSteps,
    DreamThreshold,
    EntropyThreshold,
    Eoser,
    Factor,
    MultiBlock,
    Pipelined,
    RevealRule,
    Threshold,
    TopK,
)
from trims_core.errors import ConfigError
from trims_core.generation import GenerateOptions
from trims_core.generation.named_rules import RULES, make_rule

DEFAULTS: dict[str, RevealRule] = {
    "threshold": Threshold(0.9),
    "topk": TopK(64),
    "steps": TopK(64),
    "factor": Factor(1.0),
    "factor_compat": Factor(1.0, compat=True),
    "entropy": EntropyThreshold(0.5),
    "multi_block": MultiBlock(0.5, 0.1),
    "pipelined": Pipelined(0.9, 0.7, 0.95),
    "eoser": Eoser(TopK(64), 0.4),
    "ass": Ass(1),
    "eoser_ass": Eoser(Ass(1), 0.01),
    "dream_steps": DreamSteps(64),
    "dream_official": DreamThreshold(0.9, 2),
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_name_makes_its_rule_with_its_defaults(name: str) -> None:
    assert make_rule(name, {}, 64) == DEFAULTS[name]


def test_given_values_replace_the_defaults() -> None:
    assert make_rule("multi_block", {"threshold": 0.3, "add": 0.5}, 64) == MultiBlock(0.3, 0.5)
    given = {"threshold": 0.8, "add": 0.1, "activate": 0.5}
    assert make_rule("pipelined", given, 64) == Pipelined(0.8, 0.1, 0.5)
    assert make_rule("eoser", {"steps": 8, "gamma_min": 0.0}, 64) == Eoser(TopK(8), 0.0)
    assert make_rule("dream_official", {"threshold": 0.8, "steps": 4}, 64) == DreamThreshold(0.8, 4)


def test_an_option_the_rule_does_not_read_is_refused_with_what_it_reads() -> None:
    with pytest.raises(ConfigError, match=r"steps with rule threshold: not read .* threshold, block_length"):
        GenerateOptions(steps=8).rule_kind()
    with pytest.raises(ConfigError, match="block_length with rule ass"):
        GenerateOptions(rule="ass", block_length=8).rule_kind()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "topk", "steps": 0}, "steps 0: expected at least 1"),
        ({"gen_length": 0}, "gen_length 0: expected at least 1"),
        ({"block_length": -1}, "block_length -1: expected at least 1"),
        ({"stop": "Q:"}, r"stop 'Q:': expected a tuple of texts, such as \('Q:',\)"),
        ({"suppress": "eos"}, "suppress 'eos': expected a tuple"),
    ],
)
def test_a_value_that_would_be_taken_for_another_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GenerateOptions(**options).rule_kind()


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'treshold': no such rule; did you mean 'threshold'\?"):
        GenerateOptions(rule="treshold").rule_kind()
    with pytest.raises(ConfigError, match="cache 'both': expected one of auto, none, prefix, dual"):
        GenerateOptions(cache="both").rule_kind()
    with pytest.raises(ConfigError, match="did you mean 'temperature'"):
        GenerateOptions().with_text("temprature", "1")


def test_a_text_becomes_a_value_of_the_options_type() -> None:
    options = GenerateOptions()
    for name, text, value in (
        ("threshold", "0.7", 0.7),
        ("gen-length", "32", 32),
        ("rule", "topk", "topk"),
        ("stop", "\n", ("\n",)),
        ("stop_at_end", "false", False),
    ):
        options = options.with_text(name, text)
        assert options.changed()[name.replace("-", "_")] == value
    assert options.with_text("threshold", "").threshold is None


@pytest.mark.parametrize(("name", "text"), [("steps", "many"), ("threshold", "x"), ("stop_at_end", "maybe")])
def test_a_text_that_is_no_such_value_is_refused(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} '{text}': expected"):
        GenerateOptions().with_text(name, text)


def test_options_and_names_need_no_torch(project_root: Path) -> None:
    program = (
        "import sys\n"
        "from trims_core.generation import Conversation, GenerateOptions\n"
        "GenerateOptions().rule_kind()\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project_root, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
