"""A run without a teacher has a report all the same: no histogram, examples without colours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.report_world import ANSWERS, ReportWorld


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that is trained on the student's own answers."""
    world = ReportWorld(
        tmp_path_factory.mktemp("plain"),
        variants={"standard": {"method": "tabom"}},
        teacher=False,
        rollouts=True,
    )
    return world.make_report().artifact.path


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def test_there_is_no_histogram_and_no_teacher(folder: Path, results: dict[str, Any]) -> None:
    assert (results["buckets"], results["provenance"]["teacher"]) == (None, None)
    names = {path.name for path in (folder / "figures").iterdir()}
    assert "curve-demo.svg" in names and not any(name.startswith("difficulty") for name in names)


def test_examples_are_shown_without_colours(folder: Path, results: dict[str, Any]) -> None:
    (first, *_) = results["examples"]
    assert "".join(piece["text"] for piece in first["pieces"]).removesuffix("<|eot_id|>") in ANSWERS
    assert first["pieces"][0].keys() == {"text", "n_tokens"}


def test_rollouts_and_their_grades_are_among_the_stages(results: dict[str, Any]) -> None:
    nodes = [row["node"] for row in results["stages"]]
    assert nodes[:4] == ["corpus", "tokens", "rollouts/untuned", "grades/rollouts"]
    assert results["tasks"]["demo"]["curves"].keys() == {"untuned", "standard"}
