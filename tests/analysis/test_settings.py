"""What the analysis reads of the settings."""

from __future__ import annotations

from typing import Any

import pytest

from trims_core.analysis.settings import settings
from trims_core.settings import parse_config

PLAIN: dict[str, Any] = {
    "name": "plain",
    "corpus": {"path": "a.jsonl"},
    "scores": {"model": "teacher", "teacher": "vllm", "options": {"enable_lora": False}},
    "student": {"model": "student"},
    "sweep": {"tasks": {"demo": {"benchmark": "demo", "path": "b.jsonl"}}},
}


@pytest.mark.parametrize(
    ("sweep", "middle"),
    [
        ({"thresholds": [0.9]}, 0.9),
        ({"thresholds": [0.5, 0.9]}, 0.9),
        ({"thresholds": [0.5, 0.9, 0.7]}, 0.7),
        ({"thresholds": [0.3, 0.1, 0.2], "rule": "entropy"}, 0.2),
        ({"thresholds": [8, 16], "rule": "steps"}, 16),
    ],
)
def test_the_point_is_the_middle_one_by_parallelism(sweep: dict[str, Any], middle: float) -> None:
    """One token per forward counts as the least parallel; of an even number it is the more parallel one."""
    config = parse_config({**PLAIN, "sweep": {**PLAIN["sweep"], **sweep}})
    assert settings(config).threshold == middle


def test_another_engine_runs_the_same_teacher_with_its_own_options() -> None:
    config = parse_config({**PLAIN, "analysis": {"engine": "transformers"}})
    found = settings(config).scores
    assert found is not None and config.scores is not None
    assert (found.teacher, found.model, found.options) == ("transformers", "teacher", {})
    same = parse_config({**PLAIN, "analysis": {"engine": "vllm"}})
    assert settings(same).scores == same.scores == settings(parse_config(PLAIN)).scores


def test_a_profiles_system_prompt_stands_in_its_messages() -> None:
    tasks = {**PLAIN["sweep"]["tasks"], "other": {"profile": "demo@demo", "path": "b.jsonl"}}
    raw = {**PLAIN, "sweep": {"tasks": tasks}, "corpus": {"path": "a.jsonl", "system_prompt": "Be brief."}}
    found = settings(parse_config(raw))
    assert (found.system_of("demo"), found.system_of("other")) == ("Be brief.", None)
