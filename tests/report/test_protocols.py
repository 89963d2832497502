"""What a report says of the protocol and the machine, and what it refuses to put side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.report_world import ReportWorld, Row

from trims_core.errors import ReportError
from trims_core.published import PublishedPoint
from trims_core.rendering import load_tokenizer
from trims_core.report import protocols
from trims_core.report.protocols import protocol_of, published_table
from trims_core.report.results import collect
from trims_core.report.tables import table_markdown
from trims_core.settings import parse_config

HERE = {"device": "CPU x", "dtype": "float32", "torch": "2.13.0", "cuda": None, "masks_pads": True}
COUNTED = {"canvas": 9.5, "text": 3.25, "prompt": 7.75, "text_after_ten": None}
CHECK = {"n": 20, "n_changed": 3, "latency": {"p50_s": 0.25, "p95_s": 1.5}}


def results_of(world: ReportWorld) -> dict[str, Any]:
    """What the report of a made-up run holds."""
    return collect(world.config(), world.parents(), load_tokenizer(world.config().student.model))


def noted(row: Row, **of_trims: Any) -> Row:
    """A cell's line of this machine, with other notes for the first variant's student."""
    chosen = of_trims if row["model"] == "trims-s0" else {}
    return {**row, "machines": [{**HERE, **chosen}]}


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"device": "NVIDIA H100"}, "trims-s0 on demo at .* with NVIDIA H100, float32"),
        ({"dtype": "bfloat16"}, "trims-s0 on demo at .* with CPU x, bfloat16"),
        ({"torch": "2.14.1", "cuda": "13.0"}, "torch 2.14.1, CUDA 13.0"),
    ],
)
def test_machines_number_formats_and_versions_are_not_mixed(
    tmp_path: Path, other: dict[str, Any], says: str
) -> None:
    world = ReportWorld(tmp_path, summary=lambda row: noted(row, **other))
    with pytest.raises(ReportError, match=says):
        results_of(world)
    told = results_of(ReportWorld(tmp_path, summary=world.summary, report={"mixed": True}))
    assert "cells of different machines, number formats or versions are compared" in told["caveats"][0]


def test_cells_of_one_machine_and_cells_that_do_not_say_stand_beside_each_other(tmp_path: Path) -> None:
    def some(row: Row) -> Row:
        return noted(row) if row["model"] == "trims-s0" else row

    assert results_of(ReportWorld(tmp_path, summary=some))["mixed"] == []


def test_the_table_has_every_grader_every_counting_and_the_check(tmp_path: Path) -> None:
    def rich(row: Row) -> Row:
        second = {"accuracy": 0.125, "verdicts": {"timeout": 2, "error": 1}, "parts": [3, 8], "floors": "F."}
        return {**row, "graders": {**row["graders"], "numbers 3": second}, "tpf_as": COUNTED, "check": CHECK}

    results = results_of(ReportWorld(tmp_path, summary=rich))
    text = table_markdown(results)
    assert "| model | threshold | n | words 1 | numbers 3 |" in text
    assert "| 12.5; 37.5 of 8 parts (3 not graded) |" in text
    assert "(the first one counts). F." in text
    assert "| 9.50 | 3.25 | 7.75 | – |" in text
    assert "| 3 of 20 | 0.25 | 1.50 |" in text
    assert any("decoded one at a time, 3 of 20 answers" in line for line in results["caveats"])


def test_a_run_without_a_profile_says_so_and_one_with_a_profile_names_it_and_its_departures(
    tmp_path: Path,
) -> None:
    plain = results_of(ReportWorld(tmp_path / "a"))
    assert "No profile: prompt and decoding are this run's own" in table_markdown(plain)
    task = {"profile": "demo@demo", "gen_length": 32, "block_length": 32}
    world = ReportWorld(tmp_path / "b", sweep={"tasks": {"demo": task}})
    raw = world.config().sweep
    assert raw.departures("demo") == {"gen_length": "gen_length 32 (profile: 64)"}
    assert "Profile demo@demo, but for gen_length 32 (profile: 64)." in table_markdown(results_of(world))


POINT = {
    "method": "Fast",
    "model": "m",
    "profile": "demo@demo",
    "accuracy": 71.25,
    "tokens_per_forward": 2.5,
    "counting": None,
    "hardware": "an A100",
    "cache": "dual",
    "source": "their table",
}


@pytest.mark.parametrize(
    ("task", "sweep", "is_shown"),
    [
        ({}, {"cache": "dual"}, True),
        ({}, {"cache": "none"}, False),
        ({"gen_length": 32}, {"cache": "dual"}, False),
        ({"limit": 40}, {"cache": "dual"}, False),
        ({"graders": ["gsm8k_number"]}, {"cache": "dual"}, False),
    ],
)
def test_published_points_stand_beside_the_same_protocol_with_the_same_cache_alone(
    task: dict[str, Any], sweep: dict[str, Any], is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = PublishedPoint.model_validate(POINT)
    monkeypatch.setattr(protocols, "points_of", lambda name: (point,) if name == "demo@demo" else ())
    raw = {
        "name": "x",
        "corpus": {"path": "x.jsonl"},
        "student": {"model": "m"},
        "train": {"variants": {"standard": {"method": "standard"}}},
        "sweep": {"tasks": {"demo": {"profile": "demo@demo", **task}}, **sweep},
    }
    protocol = protocol_of(parse_config(raw), "demo")
    assert [one["method"] for one in protocol["published"]] == (["Fast"] if is_shown else [])
    found = {"protocol": protocol, "cache": sweep["cache"]}
    table = published_table("demo", found)
    assert (table is not None) is is_shown
    if table is not None:
        row = "| Fast (m) | 71.2 | 2.50 | – | not stated | an A100 | their table |"
        assert row in table.markdown()
