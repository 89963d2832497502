"""The grades stage: a verdict on every sample, and nothing is decoded whatever changes about the grading."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from fakes.decoding_world import (
    CELLS,
    CHUNK,
    GRADES_NODE,
    N_PROBLEMS,
    NODE,
    Decoded,
    config_of,
    copied,
    samples_of,
    unit_bytes,
    write_sweep_world,
)

from trims_core.benchmarks import GRADERS
from trims_core.benchmarks.graders.numbers import LastAnswerSentence
from trims_core.config import TrimsConfig
from trims_core.curves import wilson_interval
from trims_core.errors import ConfigError
from trims_core.graph import build_graph, node_named
from trims_core.schema import GRADES, provenance, read_table
from trims_core.stage import Result, run_node
from trims_core.store import Artifact, Store
from trims_core.sweep import stage as sweep_stage


def _run(config: TrimsConfig) -> tuple[Artifact, Result]:
    """The sweep, and its grades."""
    store, graph = Store(config.store), build_graph(config)
    sweep = run_node(store, config, node_named(graph, NODE), {}).artifact
    return sweep, run_node(store, config, node_named(graph, GRADES_NODE), {"sweep": sweep})


def _cells(artifact: Artifact) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(artifact.file("cells.json").read_text())
    return found


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world that was swept, its cells in two chunks each."""
    root = tmp_path_factory.mktemp("swept")
    write_sweep_world(root)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sweep_stage, "CHUNK", CHUNK)
        config = config_of(root)
        run_node(Store(config.store), config, node_named(build_graph(config), NODE), {})
    return root


@pytest.fixture
def world(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may change."""
    monkeypatch.setattr(sweep_stage, "CHUNK", CHUNK)
    return copied(swept, tmp_path)


class Lenient(LastAnswerSentence):
    """Finds the length of a text modulo 4 in it, so that some answers of a random student are right."""

    def extract(self, text: str) -> str | None:
        return str(len(text) % 4)


MAIN = LastAnswerSentence.name


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's grader finds an answer in every text."""
    monkeypatch.setitem(GRADERS, Lenient.name, Lenient())


@pytest.mark.usefixtures("lenient")
def test_every_sample_gets_the_verdict_on_its_own_gold(world: Path) -> None:
    sweep, result = _run(config_of(world))
    grades = result.artifact
    assert [unit.name for unit in grades.units] == [f"{unit.name}/{MAIN}" for unit in sweep.units]
    seen = set()
    for row, cell in zip(_cells(grades), CELLS, strict=True):
        texts = samples_of(sweep, cell)["text"]
        tables = [read_table(grades.file(f"{unit}/{MAIN}/grades.parquet"), GRADES) for unit in row["units"]]
        found = [one for table in tables for one in table.to_pylist()]
        assert [one["sample_id"] for one in found] == [f"p{i}" for i in range(N_PROBLEMS)]
        assert [one["gold"] for one in found] == [str(i) for i in range(N_PROBLEMS)]
        assert [one["extracted"] for one in found] == [str(len(text) % 4) for text in texts]
        for one in found:
            assert one["verdict"] == ("right" if one["extracted"] == one["gold"] else "wrong")
            assert one["grader"] == LastAnswerSentence.name
            seen.add(one["verdict"])
        n_right = sum(one["verdict"] == "right" for one in found)
        assert (row["n"], row["n_correct"], row["accuracy"]) == (N_PROBLEMS, n_right, n_right / N_PROBLEMS)
        low, high = wilson_interval(n_right, N_PROBLEMS)
        assert (row["wilson_low"], row["wilson_high"]) == pytest.approx((low, high))
    assert seen == {"right", "wrong"}
    about = provenance(grades.file(f"{CELLS[0]}/0000/{MAIN}/grades.parquet"))["provenance"]
    assert about["grader"] == "last_answer_sentence 1"


def test_cells_json_keeps_the_sweeps_numbers_and_the_card_shows_both(
    world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "trims_core.grades"):
        sweep, result = _run(config_of(world))
    rows = _cells(result.artifact)
    for row, swept in zip(rows, _cells(sweep), strict=True):
        assert {name: row[name] for name in swept} == swept
    counts = result.artifact.manifest.counts
    assert counts == {"n_cells": 3, "n_samples": 3 * N_PROBLEMS, "n_correct": 0, "n_ungraded": 0}
    card = (result.artifact.path / "card.md").read_text()
    assert "| demo | none | threshold 0.9 | 0.0 % (0.0–39.0) | – |" in card
    said = [record.message for record in caplog.records]
    assert f"{GRADES_NODE}: demo at threshold 0.9: 0.0 % at {rows[1]['tpf']:.2f} tokens per forward" in said


def test_a_second_run_is_cached(world: Path) -> None:
    first, second = _run(config_of(world))[1], _run(config_of(world))[1]
    assert (second.how, second.artifact.path) == ("cached", first.artifact.path)


def test_another_version_of_the_grader_decodes_nothing_and_grades_everything_again(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(config_of(world))
    before = unit_bytes(world, "grades")
    decoded = Decoded(monkeypatch)
    monkeypatch.setattr(Lenient, "version", LastAnswerSentence.version + 1)
    monkeypatch.setitem(GRADERS, Lenient.name, Lenient())
    sweep, result = _run(config_of(world))
    assert (decoded.taken(), result.how) == ([], "made")
    assert len(unit_bytes(world, "grades").keys() - before.keys()) == len(sweep.units) == 6
    assert result.artifact.manifest.counts["n_correct"] > 0


def test_another_gold_decodes_nothing_and_grades_its_chunks_alone(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(config_of(world))
    before = unit_bytes(world, "grades")
    decoded = Decoded(monkeypatch)
    path = world / "test.jsonl"
    path.write_text(path.read_text().replace("The answer is 5.", "The answer is 55."))
    _, result = _run(config_of(world))
    assert (decoded.taken(), result.how) == ([], "made")
    assert len(unit_bytes(world, "grades").keys() - before.keys()) == 3
    last = read_table(result.artifact.file(f"{CELLS[0]}/0001/{MAIN}/grades.parquet"), GRADES)
    assert last["gold"].to_pylist() == ["4", "55"]


def test_one_more_grader_grades_its_own_units_alone(world: Path) -> None:
    _run(config_of(world))
    before = unit_bytes(world, "grades")
    decided = "sweep.tasks.demo.graders=[last_answer_sentence, gsm8k_number]"
    sweep, result = _run(config_of(world, decided))
    assert len(unit_bytes(world, "grades").keys() - before.keys()) == len(sweep.units)
    assert [unit.name for unit in result.artifact.units][:2] == [
        f"{CELLS[0]}/0000/{name}" for name in (MAIN, "gsm8k_number")
    ]
    (row, *_) = _cells(result.artifact)
    assert list(row["graders"]) == ["last_answer_sentence 1", "gsm8k_number 1"]
    assert row["grader"] == "last_answer_sentence 1"
    assert "| gsm8k_number 1: " in (result.artifact.path / "card.md").read_text()


def test_a_grader_that_nobody_knows_is_refused_by_name(world: Path) -> None:
    with pytest.raises(ConfigError, match=r"grader 'gsm8k_numbers' is not known; did you mean"):
        _run(config_of(world, "sweep.tasks.demo.graders=[gsm8k_numbers]"))


def test_one_more_threshold_grades_its_cell_alone(world: Path) -> None:
    _run(config_of(world))
    before = unit_bytes(world, "grades")
    _run(config_of(world, "sweep.thresholds=[0.9, 0.5, 0.3]"))
    assert len(unit_bytes(world, "grades").keys() - before.keys()) == 2


def test_a_grader_that_raises_loses_no_sample_and_is_counted_where_people_look(
    world: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Brittle(LastAnswerSentence):
        def is_right(self, text: str, gold: str) -> bool:
            if gold == "1":
                raise ZeroDivisionError("no remainder")
            if gold == "2":
                raise TimeoutError("too long")
            return super().is_right(text, gold)

    monkeypatch.setitem(GRADERS, Brittle.name, Brittle())
    _, result = _run(config_of(world))
    (row, *_) = _cells(result.artifact)
    assert row["verdicts"] == {"right": 0, "wrong": 4, "timeout": 1, "error": 1}
    assert (row["n"], row["accuracy"]) == (N_PROBLEMS, 0.0)
    assert result.artifact.manifest.counts["n_ungraded"] == 6
    card = (result.artifact.path / "card.md").read_text()
    assert "of all 18 samples 6 could not be graded" in card
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert any("failed on 2 of 4 answers; the first: ZeroDivisionError: no remainder" in w for w in warnings)
