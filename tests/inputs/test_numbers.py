"""Numbers are finite wherever they come in."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from trims_core.decoding import EntropyThreshold, Factor, MultiBlock, Sampling, Threshold, TopK
from trims_core.decoding.eos_rules import Eoser
from trims_core.errors import ConfigError
from trims_core.generation import Assistant, GenerateOptions

OPTIONS = [
    (["--temperature"], "temperature"),
    (["--guidance"], "guidance"),
    (["--top-p"], "top_p"),
    (["--threshold"], "threshold"),
    (["--rule", "entropy", "--threshold"], "threshold"),
    (["--rule", "factor", "--factor"], "factor"),
    (["--rule", "eoser", "--gamma-min"], "gamma_min"),
    (["--rule", "multi_block", "--add"], "add"),
]


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(("words", "name"), OPTIONS)
def test_an_option_that_is_not_finite_is_refused_before_anything_is_loaded(
    words: list[str], name: str, number: str
) -> None:
    found = CliRunner().invoke(app, ["generate", "no/model", "--prompt", "a", *words, number])
    assert found.exit_code == 2
    assert f"{name} {number}: expected a finite number" in found.stderr


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_pace_is_finite(number: str) -> None:
    found = CliRunner().invoke(app, ["generate", "no/model", "--prompt", "a", "--pace", number])
    assert found.exit_code == 2
    assert "pace" in found.stderr and "no/model" not in found.stderr


def test_an_option_set_in_a_conversation_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="temperature inf: expected a finite number"):
        GenerateOptions().with_text("temperature", "inf").rule_kind()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_rules_and_samplings_are_not_defined_there(number: float) -> None:
    for rule in (Factor(number), EntropyThreshold(number), MultiBlock(number, 0.1), Threshold(number)):
        with pytest.raises(ConfigError, match=f"{number}"):
            rule.check(32, 32, "none")
    for rule in (MultiBlock(0.1, number), Eoser(TopK(32), number)):
        with pytest.raises(ConfigError, match=f"{number}"):
            rule.check(32, 32, "none")
    for sampling in (Sampling(temperature=number), Sampling(guidance=number), Sampling(top_p=number)):
        with pytest.raises(ConfigError, match=f"{number}"):
            sampling.check()


@pytest.mark.parametrize("token", ["9" * 5000, "\u0661", "\u00b2\u00b2"])
def test_a_token_id_is_written_in_few_ascii_digits(project_root: Path, token: str) -> None:
    student = Assistant.load(str(project_root / "data/demo/student"))
    with pytest.raises(ConfigError, match="the student has no such token"):
        student.answer("1+1?", suppress=(token,), gen_length=32)
