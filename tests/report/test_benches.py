"""The bench of intervals runs; contrasts over several configs are those of one report, finished or not."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fakes.benches import quick
from fakes.old_store import old_world
from fakes.report_world import ReportWorld

from trims_core.rendering import load_tokenizer
from trims_core.report.results import collect
from trims_core.report.tables import contrasts

SKILL = {"untuned": 0.7, "standard": 0.78, "trims": 0.86, "other": 0.8}
STAMINA = {"untuned": 2.0, "standard": 2.2, "trims": 3.5, "other": 2.5}
LEVELS = (1.5, 2.5)


@pytest.mark.e2e
def test_a_quick_run_of_the_bench_ends_well_with_one_line_of_numbers() -> None:
    found = quick("intervals")
    assert len(found["points"]) == 8
    far = next(p for p in found["points"] if (p["seeds"], p["seed_sd_points"]) == (3, 6.0))
    assert far["coverage"]["mean"]["problems"] < 75 < far["coverage"]["mean"]["seeds_and_problems"]


@pytest.fixture(scope="module")
def bench(project_root: Path) -> ModuleType:
    """bench/contrasts.py as a module."""
    spec = importlib.util.spec_from_file_location("contrasts", project_root / "bench" / "contrasts.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["contrasts"] = module
    spec.loader.exec_module(module)
    return module


def world_with(root: Path, *variants: str, **settings: Any) -> ReportWorld:
    """A run with these variants, two seeds and three points per curve."""
    methods: Mapping[str, Mapping[str, object]] = {
        name: {"method": "standard" if name == "standard" else "trims"} for name in variants
    }
    settings = {"seeds": (0, 1), "thresholds": (0.9, 0.3), **settings}
    return ReportWorld(root, variants=methods, skill=SKILL, stamina=STAMINA, **settings)


Study = Callable[..., str]


@pytest.fixture
def tables(bench: ModuleType) -> Study:
    """Makes the artifacts of the worlds, or of the first ones, and gives the Markdown."""

    def run(*worlds: ReportWorld, pairs: list[str], n_made: int | None = None, **options: Any) -> str:
        for world in worlds[:n_made]:
            world.parents()
        configs = [world.config() for world in worlds]
        text: str = bench.markdown(configs, pairs, LEVELS, specs=worlds[0].specs(), **options)
        return text

    return run


def test_methods_of_two_configs_get_the_tables_of_one_report(tmp_path: Path, tables: Study) -> None:
    report = {"levels": LEVELS, "compare": [["trims", "standard"], ["trims", "untuned"]]}
    whole = world_with(tmp_path, "standard", "trims", report=report)
    results = collect(whole.config(), whole.parents(), load_tokenizer(whole.config().student.model))
    found = results["tasks"]["demo"]
    split = [world_with(tmp_path, "trims"), world_with(tmp_path, "standard")]
    text = tables(*split, pairs=["trims:standard", "trims:untuned"])
    wanted = {table.caption: table for table in contrasts("demo", found)}
    for table in wanted.values():
        for row in table.rows:
            assert "| " + " | ".join(row) + " |" in text
        assert table.caption in text
    for pair in found["comparisons"]:
        assert pair["sentence"] in text


def test_what_is_not_there_yet_is_named_and_its_method_left_out(tmp_path: Path, tables: Study) -> None:
    worlds = (world_with(tmp_path, "trims", "standard"), world_with(tmp_path, "other"))
    text = tables(*worlds, pairs=["trims:standard", "trims:other"], n_made=1)
    assert (
        "- other of world (left out): no grades; not there: sweep/other-s0 (waits for train/other-s0" in text
    )
    assert "| trims − standard | mean over" in text
    assert "| trims − other" not in text


def test_a_method_with_a_missing_seed_is_left_out_unless_asked_for(tmp_path: Path, tables: Study) -> None:
    world_with(tmp_path, "trims", "standard").parents()
    three = world_with(tmp_path, "trims", "standard", seeds=(0, 1, 2))
    two = world_with(tmp_path, "standard")
    options: dict[str, Any] = {"pairs": ["trims:standard"], "n_made": 1}
    text = tables(two, three, **options)
    assert "trims of world (left out): seed 0 " in text
    assert "not there: sweep/trims-s2 (" in text
    assert "| trims − standard" not in text
    so_far = tables(two, three, **options, seeds_so_far=True)
    assert "(n = 40, 2 seeds)" in so_far


def test_equal_names_with_other_artifacts_are_two_methods(tmp_path: Path, tables: Study) -> None:
    first = world_with(tmp_path / "a", "trims")
    other = world_with(tmp_path / "b", "trims", effect=lambda _config: 0.05)
    text = tables(first, other, pairs=["trims:world/trims"])
    assert "| trims − world/trims | mean over" in text


def test_an_unknown_method_is_refused_with_the_nearest_name(tmp_path: Path, tables: Study) -> None:
    with pytest.raises(ValueError, match=r"--pairs trims:standart: .* did you mean 'standard'\?"):
        tables(world_with(tmp_path, "trims", "standard"), pairs=["trims:standart"], n_made=0)


def test_configs_that_decode_differently_are_refused(tmp_path: Path, tables: Study) -> None:
    dual = world_with(tmp_path / "b", "standard", sweep={"cache": "dual"})
    with pytest.raises(ValueError, match="the configs decode differently"):
        tables(world_with(tmp_path / "a", "trims"), dual, pairs=["trims:standard"], n_made=0)


def test_sweeps_of_version_01_stand_in_for_what_is_not_there_if_asked_for(
    tmp_path: Path, bench: ModuleType, tables: Study
) -> None:
    pairs = ["trims:standard", "trims:untuned"]
    world = world_with(tmp_path, "trims", "standard")
    wanted = tables(world, pairs=pairs)
    old_world(world)
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "old").rename(tmp_path / "store")

    def text(of: ReportWorld = world, **options: Any) -> str:
        found: str = bench.markdown([of.config()], pairs, LEVELS, specs=of.specs(), **options)
        return found

    assert text().count("(left out)") == 3
    found = text(old=True)
    assert found.count("(version 0.1)") == 5
    assert found.partition("## demo")[2] == wanted.partition("## demo")[2] != ""
    other = world_with(tmp_path, "trims", "standard", thresholds=(0.9, 0.6))
    assert text(other, old=True).count("(left out)") == 3, "with other settings it is another method"
    world.parents()
    assert text(old=True) == wanted
