"""Reading settings: order of sources, all problems at once, names of misspelt keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fakes.stages import raw_config

from trims_core.config import TrimsConfig
from trims_core.errors import ConfigError
from trims_core.settings import load_config, parse_config


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A valid YAML file that sets buckets.k to 4."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**raw_config(tmp_path), "buckets": {"k": 4}}))
    return path


def problems(raw: dict[str, object]) -> str:
    """The message of wrong settings."""
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    return str(caught.value)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(path: Path) -> None:
    env = {"TRIMS_BUCKETS__K": "5"}
    assert load_config(path, env={}).buckets.k == 4
    assert load_config(path, env=env).buckets.k == 5
    assert load_config(path, ["buckets.k=6"], env=env).buckets.k == 6


def test_the_environment_reaches_nested_fields_and_the_store(path: Path) -> None:
    env = {"TRIMS_TRAIN__LORA__R": "16", "TRIMS_STORE": "/elsewhere", "TRIMS_FAULT": "a:kill", "HOME": "/"}
    config = load_config(path, env=env)
    assert (config.train.lora.r, config.store) == (16, "/elsewhere")


def test_values_on_the_command_line_are_yaml(path: Path) -> None:
    wanted = ["train.seeds=[1, 2]", "train.variants={plain: {method: standard}}", "corpus.limit=null"]
    config = load_config(path, wanted, env={})
    assert config.train.seeds == (1, 2)
    assert config.train.variants["plain"].method == "standard"
    assert config.corpus.limit is None


@pytest.mark.parametrize(
    ("override", "message"),
    [("buckets.k", "expected a.b=value"), ("name.x=1", "not a section"), ("buckets.k=[", "not valid YAML")],
)
def test_a_broken_override_is_named(path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(path, [override], env={})


def test_a_missing_file_and_broken_yaml_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.yaml", env={})
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(ConfigError, match="found list"):
        load_config(tmp_path / "list.yaml", env={})
    (tmp_path / "torn.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "torn.yaml", env={})


def test_all_problems_are_listed_together(tmp_path: Path) -> None:
    raw = {**raw_config(tmp_path), "buckets": {"k": 0}, "train": {"lr": -1, "lora": {"rank": 3}}}
    text = problems(raw)
    assert "3 wrong setting(s)" in text
    for place in ("buckets.k", "train.lr", "train.lora.rank"):
        assert place in text


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("buckets", "metrics", "metric"),
        ("train", "sead", "seeds"),
        ("scores", "max_rejected_fractions", "max_rejected_fraction"),
    ],
)
def test_an_unknown_key_suggests_the_nearest_name(tmp_path: Path, section: str, key: str, meant: str) -> None:
    raw = raw_config(tmp_path)
    raw[section] = {**raw.get(section, {}), key: 1}  # type: ignore[dict-item]
    assert f"{section}.{key}: unknown key; did you mean '{meant}'?" in problems(raw)


def test_an_unknown_key_inside_a_named_variant_suggests_too(tmp_path: Path) -> None:
    text = problems({**raw_config(tmp_path), "train": {"variants": {"trims": {"roh": 0.5}}}})
    assert "train.variants.trims.roh: unknown key; did you mean 'rho'?" in text


def test_an_unknown_key_unlike_any_other_lists_the_known_ones(tmp_path: Path) -> None:
    assert "known: k, metric" in problems({**raw_config(tmp_path), "buckets": {"zzzzz": 1}})


def test_what_cannot_work_together_is_refused(tmp_path: Path) -> None:
    raw = raw_config(tmp_path)
    both = {**raw, "scores": {"model": "m", "teacher": "vllm"}, "buckets": {"metric": "entropy"}}
    assert "metric: entropy needs the whole distribution" in problems(both)
    assert "taken by the student" in problems({**raw, "train": {"variants": {"untuned": {}}}})
    assert "no source" in problems({**raw, "corpus": {}})
    assert "batch_size 32 is not a multiple" in problems({**raw, "train": {"micro_batch_size": 5}})
    sweep = {"tasks": {"d": {"benchmark": "demo"}}, "gen_length": 10, "block_length": 4}
    assert "gen_length 10 is not a multiple" in problems({**raw, "sweep": sweep})


def test_only_a_point_that_is_swept_is_analysed(tmp_path: Path) -> None:
    wrong = {**raw_config(tmp_path), "analysis": {"threshold": 0.85}}
    said = "analysis.threshold: 0.85 is none of sweep.thresholds; expected one of 0.9, 0.8, 0.7, 0.6, 0.5"
    assert said in problems(wrong)
    right = {**raw_config(tmp_path), "analysis": {"threshold": 0.8}}
    assert parse_config(right).analysis.threshold == 0.8
    assert parse_config({**raw_config(tmp_path), "analysis": None}).analysis is None


def test_another_engine_is_for_a_teacher_that_two_can_run(tmp_path: Path) -> None:
    raw = {**raw_config(tmp_path), "analysis": {"engine": "transformers"}}
    said = "analysis.engine: transformers, and scores.teacher is fake.module:Teacher; expected"
    assert said in problems(raw)
    raw["scores"] = {"model": "./none", "teacher": "vllm"}
    assert parse_config(raw).analysis.engine == "transformers"
    without = {**raw, "train": {"variants": {"plain": {"method": "standard"}}}}
    del without["scores"]
    assert parse_config(without).scores is None, "nobody reads the engine then"


def test_result_fields_leave_out_what_does_not_change_results(tmp_path: Path) -> None:
    config: TrimsConfig = parse_config(raw_config(tmp_path))
    assert "path" not in config.corpus.result_fields()
    assert {"batch_size", "max_rejected_fraction"}.isdisjoint(config.scores.result_fields())
    assert {"launch", "save_steps"}.isdisjoint(config.train.result_fields())
    assert "device" not in config.student.result_fields()
    assert "path" not in config.sweep.result_fields()["tasks"]["demo"]
    assert config.train.result_fields()["lora"]["r"] == config.train.lora.r


def test_every_other_field_is_a_result_field(tmp_path: Path) -> None:
    config = parse_config(raw_config(tmp_path))
    assert set(config.buckets.result_fields()) == {"k", "metric", "supervised_end"}
    assert "store" not in config.result_fields()
    assert {"corpus", "scores", "buckets", "student", "train", "sweep"} <= set(config.result_fields())


def test_a_section_that_is_left_empty_takes_overrides(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text((Path(__file__).parents[1] / "configs/demo.yaml").read_text().split("\nbuckets:")[0])
    raw = path.read_text()
    path.write_text(f"{raw}\nbuckets:\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["buckets.k=nine"], env={})
    assert "buckets.k" in str(caught.value) and "not a section" not in str(caught.value)
