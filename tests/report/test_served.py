"""A served report gives its page and the samples of every problem, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fakes.played_world import played_world
from fakes.report_world import ReportWorld

from trims_core.errors import ReportError
from trims_core.report.cells import load_cells
from trims_core.report.player import decoded_tasks
from trims_core.report.runs import Run
from trims_core.report.served import ServedReport, open_report
from trims_core.store import Artifact

HOSTILE_ID = "a/b?c#d .json"


def renamed(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "sample_id": HOSTILE_ID} if row["sample_id"] == "p0003" else row


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ReportWorld:
    world = played_world(tmp_path_factory.mktemp("served"), seeds=(0,), report={"player": 2})
    played = world.edit
    world.edit = lambda *told: [renamed(row) for row in played(*told) or ()]
    return world


@pytest.fixture(scope="module")
def report(world: ReportWorld) -> Artifact:
    return world.make_report().artifact


@pytest.fixture(scope="module")
def served(world: ReportWorld, report: Artifact) -> ServedReport:
    return open_report(world.config(), report, world.parents())


def json_at(served: ServedReport, path: str) -> Any:
    found = served.reply(path)
    assert found is not None and found.kind == "application/json"
    return json.loads(found.body)


def test_the_page_is_the_reports_but_may_ask_for_samples(served: ServedReport, report: Artifact) -> None:
    page, on_disk = served.page.decode(), report.file("index.html").read_text(encoding="utf-8")
    only_here = (" connect-src &#39;self&#39;;", " data-served")
    for text in only_here:
        assert page.count(text) == 1
        page = page.replace(text, "")
    assert page == on_disk


def test_every_problem_is_listed_with_its_verdicts_and_can_be_had(served: ServedReport) -> None:
    listed = json_at(served, "/samples/demo.json")
    assert len(listed) == 40
    for row in listed[::13]:
        problem = json_at(served, f"/samples/demo/{quote(row['id'], safe='')}.json")
        assert problem["id"] == row["id"]
        told = [{name: one[name] for name in ("model", "point", "verdict")} for one in problem["answers"]]
        assert told == row["verdicts"]


def test_a_problem_is_the_same_inside_the_page_and_from_the_server(
    served: ServedReport, report: Artifact
) -> None:
    for problem in json.loads(report.file("samples.json").read_bytes())["tasks"]["demo"]["problems"]:
        assert json_at(served, f"/samples/demo/{quote(problem['id'], safe='')}.json") == problem


def test_any_id_can_stand_in_an_address(served: ServedReport) -> None:
    assert json_at(served, f"/samples/demo/{quote(HOSTILE_ID, safe='')}.json")["id"] == HOSTILE_ID


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/x",
        "/samples",
        "/samples/demo",
        "/samples/other.json",
        "/samples/demo/none.json",
        "/samples/demo/p0001",
        "/samples/demo/../demo.json",
        "/../etc/passwd",
        "//samples/demo.json",
        "/samples/demo/p0001.json/",
    ],
)
def test_there_is_nothing_else(served: ServedReport, path: str) -> None:
    assert served.reply(path) is None


def test_a_report_of_another_version_is_not_served(
    world: ReportWorld, report: Artifact, tmp_path: Path
) -> None:
    entries = {entry.name: entry for entry in report.manifest.files}
    for name, text in (("results.json", '{"results_version": 7}'), ("samples.json", "{}")):
        (tmp_path / name).write_text(text)
        entries[name] = replace(entries[name], size_bytes=len(text), sha256="")
    manifest = replace(report.manifest, files=tuple(entries.values()))
    with pytest.raises(ReportError, match="results of version 7; expected 9"):
        open_report(world.config(), Artifact(tmp_path, manifest), world.parents())


def test_an_ungraded_answer_is_listed_as_such(tmp_path: Path) -> None:
    world = ReportWorld(
        tmp_path,
        n=3,
        edit=lambda _m, _t, rows: [{**row, "correct": False, "verdict": "timeout"} for row in rows],
    )
    config = world.config()
    cells, _ = load_cells([Run(config, world.parents())])
    (row, *_) = decoded_tasks(config, cells, {})["demo"].verdicts()
    assert {one["verdict"] for one in row["verdicts"]} == {"timeout"}
