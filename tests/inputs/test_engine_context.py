"""How much a teacher reads is what its engine is told to, not what config.json alone says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.chain_world import ChainWorld, rows, table
from fakes.teacher import write_tokenizer

from trims_core.config import ScoresConfig
from trims_core.errors import ConfigError, RejectBudgetError
from trims_core.teacher.limits import Limits, context_limit, engine_overrides, read_limits
from trims_core.teacher.vllm_teacher import engine_arguments

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 100}
OLD_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 100}


def context(folder: Path, options: dict[str, Any] | None = None, **config: Any) -> int | None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 100, **config}))
    return read_limits(str(folder), None, engine_overrides(options or {})).context


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, 100),
        ({"hf_overrides": {"max_position_embeddings": 300}}, 300),
        ({"hf_overrides": {"rope_parameters": YARN}}, 400),
        ({"hf_overrides": {"rope_scaling": OLD_YARN}}, 400),
        ({"rope_scaling": OLD_YARN}, 400),
        ({"hf_overrides": {"rope_parameters": {"rope_type": "linear", "factor": 2}}}, 200),
        ({"hf_overrides": {"rope_parameters": {"rope_type": "dynamic", "factor": 2.5}}}, 250),
        ({"hf_overrides": {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}}, 100),
        ({"hf_overrides": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}}, 100),
        ({"hf_overrides": {"rope_parameters": {**YARN, "factor": None}}}, 100),
        ({"hf_overrides": {"architectures": ["Other"]}}, 100),
    ],
)
def test_the_context_is_the_engines(options: dict[str, Any], wanted: int, tmp_path: Path) -> None:
    assert context(tmp_path, options) == wanted


def test_what_config_json_says_of_its_own_scaling_counts_too(tmp_path: Path) -> None:
    assert context(tmp_path, rope_scaling=OLD_YARN) == 400
    assert context(tmp_path, rope_parameters=YARN, max_position_embeddings=400) == 400
    assert (
        context(tmp_path, rope_parameters={"full_attention": YARN, "sliding": {"rope_type": "default"}})
        == 400
    )
    inside = {"text_config": {"max_position_embeddings": 60, "vocab_size": 7}}
    assert (
        context(tmp_path, {"hf_overrides": {"text_config": {"max_position_embeddings": 90}}}, **inside) == 90
    )


def test_overrides_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hf_overrides: 'yarn'; expected a mapping .*rope_parameters"):
        engine_overrides({"hf_overrides": "yarn"})


def test_rows_beyond_config_json_are_scored_where_the_engine_reads_them(tmp_path: Path) -> None:
    world = ChainWorld(tmp_path).write(rows(6))
    write_tokenizer(tmp_path / "teacher")
    limits = {"model_type": "qwen3", "max_position_embeddings": 40, "vocab_size": 512}
    (tmp_path / "teacher/config.json").write_text(json.dumps(limits))
    with pytest.raises(RejectBudgetError, match=r"the teacher reads 40\. .*scores\.options\.hf_overrides"):
        world.run("scores")
    with pytest.raises(ConfigError, match=r"max_model_len: 400 is more .*hf_overrides: .*factor: F"):
        world.run("scores", scores={"max_model_len": 400})
    options = {"hf_overrides": {"rope_parameters": {**YARN, "original_max_position_embeddings": 40}}}
    scores = {"teacher": "inputs_teacher:Reader", "options": options}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        (tmp_path / "inputs_teacher.py").write_text(
            "from fakes.teacher import FakeTeacher\n\n\n"
            "class Reader(FakeTeacher):\n"
            "    def __init__(self, config, hf_overrides):\n"
            "        super().__init__(config)\n"
        )
        done = world.run("scores", scores=scores)
        assert table(done["scores"].artifact, "scores").num_rows == 6
        with pytest.raises(ConfigError, match="context of 160 tokens"):
            world.run("scores", scores={**scores, "max_model_len": 161})


def test_the_engine_is_given_its_overrides_and_the_longest_row(tmp_path: Path) -> None:
    options = {"hf_overrides": {"rope_parameters": YARN}}
    config = ScoresConfig(model="m", options=options)
    assert context_limit(Limits(400), 400) == 400
    arguments = engine_arguments(tmp_path, config, Limits(400), 399, on_gpu=False)
    assert arguments["hf_overrides"] == options["hf_overrides"] and arguments["max_model_len"] == 400
