"""What is played is what was decoded: every token once, at its step, with its numbers; and it stays small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.played_world import ANSWERS, CANVAS, played_world
from fakes.report_world import ReportWorld

from trims_core import rendering
from trims_core.keyed import chosen
from trims_core.rendering import load_tokenizer
from trims_core.report import played
from trims_core.report.analysed import Analyses
from trims_core.report.cells import Cell, load_cells
from trims_core.report.examples import answers_side_by_side
from trims_core.report.player import Decoded, decoded_tasks, samples_of, samples_to_json, unscored
from trims_core.report.runs import Run
from trims_core.report.token_difficulty import difficulties_of
from trims_core.schema import ANSWER_DIFFICULTY, write_table
from trims_core.store import Artifact, FileEntry, Manifest


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ReportWorld:
    return played_world(tmp_path_factory.mktemp("played"))


@pytest.fixture(scope="module")
def cells(world: ReportWorld) -> list[Cell]:
    return load_cells([Run(world.config(), world.parents())])[0]


def tasks_of(world: ReportWorld, cells: list[Cell], difficulties: Any = unscored) -> dict[str, Decoded]:
    config = world.config()
    tokenizers = dict.fromkeys((cell.model for cell in cells), load_tokenizer(config.student.model))
    return decoded_tasks(config, cells, tokenizers, difficulties)


@pytest.fixture(scope="module")
def tasks(world: ReportWorld, cells: list[Cell]) -> dict[str, Decoded]:
    return tasks_of(world, cells)


def text_of(answer: dict[str, Any]) -> str:
    """What stands on the canvas in front of the end token."""
    end = answer["n_tokens"] - answer["finished"]
    return "".join(piece for piece in answer["pieces"][:end] if piece is not None)


def test_the_first_seed_of_every_method_is_played_at_three_points(tasks: dict[str, Decoded]) -> None:
    about = tasks["demo"].about()
    assert about["models"] == [
        {"model": "untuned", "method": "untuned"},
        {"model": "standard-s0", "method": "standard"},
        {"model": "trims-s0", "method": "trims"},
    ]
    assert about["points"] == [
        {"threshold": None, "text": "one token per forward"},
        {"threshold": 0.6, "text": "threshold 0.6"},
        {"threshold": 0.3, "text": "threshold 0.3"},
    ]
    assert (about["gen_length"], about["block_length"], about["n_problems"]) == (CANVAS, 32, 40)


def test_the_middle_point_and_the_problems_are_those_of_the_answers_side_by_side(
    cells: list[Cell], tasks: dict[str, Decoded]
) -> None:
    played = samples_of(tasks, count=5, size_mb=1)["tasks"]["demo"]
    side_by_side = answers_side_by_side([cell for cell in cells if cell.cache == "dual"], 3)
    assert side_by_side["threshold"] == played["points"][1]["threshold"]
    for shown, problem in zip(side_by_side["problems"], played["problems"], strict=False):
        assert shown["id"] == problem["id"]
        texts = {text_of(answer) for answer in problem["answers"] if answer["point"] == 1}
        assert texts == {answer["text"] for answer in shown["answers"]}


def test_every_answer_holds_its_text_its_steps_and_what_was_sure_about_them(
    tasks: dict[str, Decoded],
) -> None:
    ids = tasks["demo"].ids[:6]
    for problem in tasks["demo"].problems(ids):
        assert len(problem["answers"]) == 9
        for answer in problem["answers"]:
            assert "café" in text_of(answer) or text_of(answer).startswith(("Tom", "<b>8</b>"))
            assert sorted(set(answer["steps"])) == list(range(answer["n_forwards"]))
            assert all(400 <= value <= 1000 for value in answer["confidence"])
            lengths = {len(answer[name]) for name in ("pieces", "steps", "confidence", "entropy")}
            assert lengths == {answer["n_tokens"]}
            assert "difficulty" not in answer


def test_a_character_split_over_tokens_has_its_text_at_the_last_of_them(tasks: dict[str, Decoded]) -> None:
    number = next(i for i in range(3) if "café" in ANSWERS[i])
    (problem,) = tasks["demo"].problems([f"p{number:04d}"])
    pieces = problem["answers"][0]["pieces"]
    place = pieces.index("é")
    assert pieces[place - 1] is None and pieces[place - 2] is not None


def test_what_was_never_revealed_is_told_as_such(tmp_path: Path) -> None:
    def edit(model: str, threshold: float | None, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        unsure = {"reveal_step": [0, -1, 0] + [-1] * 29, "confidence": [0.5, None, 0.25] + [None] * 29}
        return [{**row, **unsure, "n_forwards": 1} for row in rows]

    world = ReportWorld(tmp_path, n=2, edit=edit)
    cells, _ = load_cells([Run(world.config(), world.parents())])
    (problem,) = tasks_of(world, cells)["demo"].problems(["p0000"])
    assert problem["answers"][0]["steps"] == [0, -1, 0]
    assert problem["answers"][0]["confidence"] == [500, -1, 250]


def test_the_teachers_difficulty_is_there_where_it_was_asked(world: ReportWorld, cells: list[Cell]) -> None:
    def asked(cell: Cell, sample_id: str) -> list[float | None] | None:
        return [0.5, None] * (CANVAS // 2) if cell.threshold == 0.6 and cell.model == "trims-s0" else None

    (problem,) = tasks_of(world, cells, asked)["demo"].problems(["p0000"])
    scored = [answer for answer in problem["answers"] if "difficulty" in answer]
    assert [(answer["model"], answer["point"]) for answer in scored] == [(2, 1)]
    assert scored[0]["difficulty"][:3] == [500, -1, 500]
    assert len(scored[0]["difficulty"]) == len(scored[0]["pieces"])


def test_without_an_analysis_no_token_has_a_difficulty(cells: list[Cell]) -> None:
    assert difficulties_of(Analyses([]))(cells[0], "p0000") is None


def test_difficulties_are_read_from_the_analysis_at_its_point_alone(
    world: ReportWorld, cells: list[Cell], tmp_path: Path
) -> None:
    names = [f"teacher/demo/{model}/difficulty.parquet" for model in ("trims-s0", "standard-s0")]
    for name, nats in zip(names, ([0.5, None], None), strict=True):
        (tmp_path / name).parent.mkdir(parents=True)
        columns = {"sample_id": ["p0000"], "difficulty_nats": [nats], "order_difficulty": [0.1]}
        columns["reject"] = [None]
        write_table(tmp_path / name, ANSWER_DIFFICULTY, columns)
    entries = tuple(FileEntry(name, (tmp_path / name).stat().st_size, "") for name in names)
    info = {"rule": "threshold", "cache": "dual", "threshold": 0.6, "teacher": "teacher"}
    manifest = Manifest("analysis", "analysis", 1, "f" * 64, files=entries, counts={}, info=info, seconds=1.0)
    nats_of = difficulties_of(Analyses([Run(world.config(), {"analysis": Artifact(tmp_path, manifest)})]))
    told = {(c.model, c.cache, c.threshold): nats_of(c, "p0000") for c in cells}
    assert told.pop(("trims-s0", "dual", 0.6)) == [0.5, None]
    assert set(told.values()) == {None}
    (scored,) = (c for c in cells if (c.model, c.threshold) == ("trims-s0", 0.6))
    assert nats_of(scored, "p0001") is None


def test_what_needs_more_room_is_left_out_by_whole_problems_from_the_end(tasks: dict[str, Decoded]) -> None:
    whole = samples_of(tasks, count=6, size_mb=10)
    assert [one["id"] for one in whole["tasks"]["demo"]["problems"]] == chosen(tasks["demo"].ids, 6)
    sizes = [len(samples_to_json(problem)) for problem in whole["tasks"]["demo"]["problems"]]
    half = samples_of(tasks, count=6, size_mb=sum(sizes[:4]) / 1e6)
    assert half["tasks"]["demo"]["problems"] == whole["tasks"]["demo"]["problems"][:4]
    assert (half["problems_wanted"], half["problems_shown"]) == (6, 4)
    few = samples_of(tasks, count=1000, size_mb=100)
    assert (few["problems_wanted"], few["problems_shown"]) == (40, 40)
    assert samples_of(tasks, count=6, size_mb=1e-6)["tasks"]["demo"]["problems"] == []


def test_methods_without_a_common_point_cannot_be_played(tmp_path: Path) -> None:
    world = ReportWorld(
        tmp_path, edit=lambda model, t, rows: rows if (model == "untuned") == (t is None) else None
    )
    cells, _ = load_cells([Run(world.config(), world.parents())], partial=True)
    assert tasks_of(world, cells) == {}


def test_samples_are_finite_json(tasks: dict[str, Decoded]) -> None:
    samples = samples_of(tasks, count=2, size_mb=1)
    assert json.loads(samples_to_json(samples)) == samples


def test_runs_play_with_the_tokenizers_of_their_own_students_and_the_tasks_of_all(
    world: ReportWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = played_world(tmp_path, {0: "another answer"})
    config = other.config()
    task = config.sweep.model_copy(update={"tasks": {"other": config.sweep.tasks["demo"]}})
    student = config.student.model_copy(update={"revision": "v2"})
    theirs = config.model_copy(update={"student": student, "sweep": task})
    runs = [Run(world.config(), world.parents(), "a"), Run(theirs, other.parents(), "b")]
    loaded: list[tuple[str, str | None]] = []

    def load(model: str, revision: str | None) -> Any:
        loaded.append((model, revision))
        return "theirs"

    def cells(named: list[Run], **_: Any) -> tuple[list[Cell], None]:
        """The second run's answers stand for those to its own task."""
        first, second = (load_cells([one])[0] for one in (named[0], replace(named[1], config=config)))
        return [*first, *(replace(cell, task="other") for cell in second)], None

    ours: Any = "ours"
    monkeypatch.setattr(rendering, "load_tokenizer", load)
    monkeypatch.setattr(played, "load_cells", cells)
    tasks = played.played_tasks(runs, ours)
    assert list(tasks) == ["demo", "other"]
    assert loaded == [(student.model, "v2")]
    for name, decoded, tokenizer in (("a", tasks["demo"], "ours"), ("b", tasks["other"], "theirs")):
        assert [cell.model for cell in decoded.cells[:1]] == [f"{name}:untuned"]
        assert {decoded.tokenizers[cell.model] for cell in decoded.cells} == {tokenizer}
