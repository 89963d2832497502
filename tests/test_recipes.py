"""Every shipped recipe loads, says what it is for, and names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trims_core.settings import load_config, parse_config

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_loads_and_carries_its_file_name(path: Path) -> None:
    assert load_config(path, env={}).name == path.stem


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_node_process_reads_the_settings_that_were_loaded(path: Path) -> None:
    config = load_config(path, env={})
    assert parse_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_opens_with_purpose_hardware_time_and_command(path: Path) -> None:
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for word in ("Purpose:", "Hardware:", "Time:", "Command:"):
        assert any(word in line for line in head), f"{path.name} lacks {word}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_local_path_of_a_recipe_is_shipped(path: Path) -> None:
    named = re.findall(r"\bdata/demo[\w./-]*", path.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_study_is_the_demo_with_more_variants_seeds_and_problems() -> None:
    demo = load_config(ROOT / "configs/demo.yaml", env={})
    study = load_config(ROOT / "configs/demo-study.yaml", env={})
    assert study.scores == demo.scores
    assert study.buckets == demo.buckets
    assert {name: study.train.variants[name] for name in demo.train.variants} == demo.train.variants
    # one micro-batch is faster on two threads, four of like lengths on the one that a study has; the demo
    # takes fewer steps, so that ten minutes hold on a slow machine
    same = {"variants", "seeds", "micro_batch_size", "max_steps"}
    assert study.train.model_dump(exclude=same) == demo.train.model_dump(exclude=same)


@pytest.mark.parametrize("name", ["gsm8k", "math500", "humaneval", "mbpp", "planning"])
def test_a_benchmark_recipe_runs_a_few_problems_of_named_protocols_on_the_demo(name: str) -> None:
    config = load_config(ROOT / f"configs/{name}.yaml", env={})
    assert config.student.model == "data/demo/student"
    for task, chosen in config.sweep.tasks.items():
        assert chosen.profile is not None
        assert (chosen.limit, config.sweep.decoding(task).gen_length) == (20, 64)


@pytest.mark.parametrize("name", ["llada-s1k", "dream-s1k"])
def test_the_papers_runs_decode_its_four_benchmarks_as_published_with_and_without_a_cache(name: str) -> None:
    sweep = load_config(ROOT / f"configs/{name}.yaml", env={}).sweep
    assert {task.benchmark_name for task in sweep.tasks.values()} == {"gsm8k", "math", "mbpp", "humaneval"}
    assert [sweep.departures(task) for task in sweep.tasks] == [{}] * 4
    assert sweep.caches(tuned=False) == ("none", "dual")
