"""A cell's key holds what decoding it reads, and nothing that it does not."""

from __future__ import annotations

from typing import Any

import pytest

from trims_core.config import StudentConfig
from trims_core.sweep.settings import cell_settings, sweep_settings
from trims_core.sweep_sections import SweepConfig

RAW = {"tasks": {"demo": {"benchmark": "demo"}}, "gen_length": 32, "block_length": 32, "thresholds": [0.5]}


def fields(
    threshold: float | None = 0.5, cache: Any = "none", first_number: int = 0, **settings: Any
) -> dict[str, Any]:
    """The result fields of a cell."""
    config = SweepConfig.model_validate({**RAW, **settings})
    chosen = sweep_settings(config, StudentConfig(model="x"), None, tuned=True)
    return cell_settings(chosen, next(iter(config.tasks)), cache, threshold, first_number).result_fields()


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 3},
        {"untuned": False},
        {"compare_caches": ["dual"]},
        {"tasks": {"other": {"benchmark": "demo", "limit": 3}}},
        {"thresholds": [0.5, 0.7]},
        {"multi_block_add": 0.5},
        {"pipeline_add": 0.5, "pipeline_activate": 0.5},
        {"dream_steps": 8},
        {"gamma_min": 0.5},
        {"sampling": {"seed": 3}},
        {"sampling": {"tempered_confidence": True}},
    ],
)
def test_what_a_cell_does_not_read_is_not_in_its_key(settings: dict[str, Any]) -> None:
    assert fields(**settings) == fields()


@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "factor"},
        {"sampling": {"temperature": 0.5}},
        {"sampling": {"guidance": 1.0}},
        {"stop_strings": ["x"]},
        {"gen_length": 64, "block_length": 32},
        {"block_length": 16},
        {"stop_at_end": False},
    ],
)
def test_what_a_cell_reads_is_in_its_key(settings: dict[str, Any]) -> None:
    assert fields(**settings) != fields()
    assert fields(threshold=0.7) != fields() != fields(cache="dual")


def test_what_a_rule_alone_reads_is_in_the_keys_of_that_rule() -> None:
    assert fields(rule="multi_block") != fields(rule="multi_block", multi_block_add=0.5)
    pipelined = fields(rule="pipelined")
    assert pipelined != fields(rule="pipelined", pipeline_add=0.5) != fields()
    assert pipelined != fields(rule="pipelined", pipeline_activate=0.5)
    assert not {"pipeline_add", "pipeline_activate"} & fields().keys()
    dream: dict[str, Any] = {"rule": "dream_official"}
    assert fields(**dream) != fields(**dream, dream_steps=8)
    assert fields(cache="dual", **dream) == fields(cache="dual", **dream, dream_steps=8)


def test_rules_that_hold_ends_back_have_their_factor_in_their_keys() -> None:
    eoser: dict[str, Any] = {"rule": "eoser", "threshold": 8, "thresholds": [8]}
    assert "gamma_min" not in fields()
    assert fields(**eoser)["gamma_min"] == 0.4
    assert fields(5, rule="eoser_ass", thresholds=[5])["gamma_min"] == 0.01
    assert fields(**eoser, gamma_min=0.4) == fields(**eoser) != fields(**eoser, gamma_min=0.3)
    steps: dict[str, Any] = {"rule": "steps", "threshold": 8, "thresholds": [8]}
    assert fields(**steps, gamma_min=0.3) == fields(**steps)


def test_rules_without_blocks_have_no_block_length_in_their_keys() -> None:
    ass: dict[str, Any] = {"rule": "ass", "threshold": 5, "thresholds": [5]}
    assert fields(**ass, block_length=8) == fields(**ass)
    steps: dict[str, Any] = {"rule": "steps", "threshold": 8, "thresholds": [8]}
    assert fields(**steps, block_length=8) != fields(**steps)


def test_the_point_with_one_token_per_forward_is_the_same_under_every_rule() -> None:
    assert fields(None) == fields(None, rule="entropy") == fields(None, rule="multi_block", multi_block_add=1)
    assert fields(None) != fields(0.5)


def test_where_noise_is_drawn_its_seed_and_the_problems_numbers_count() -> None:
    assert fields(first_number=200) == fields()
    noisy: dict[str, Any] = {"sampling": {"temperature": 0.5}}
    assert fields(first_number=200, **noisy) != fields(**noisy)
    assert fields(sampling={"temperature": 0.5, "seed": 1}) != fields(**noisy)
