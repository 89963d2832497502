"""The report reads what version 0.1 made, and finds in it what it finds in the same run made today."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fakes.old_store import old_world, write_old
from fakes.report_world import ReportWorld

from trims_core.errors import ReportError, SchemaError
from trims_core.graph import build_graph
from trims_core.rendering import load_tokenizer
from trims_core.report import figures
from trims_core.report.results import collect
from trims_core.stage import run_node
from trims_core.store import Artifact, Store

ABOUT_ARTIFACTS = ("stages", "provenance", "costs")
"""What results say of the artifacts themselves."""


@pytest.fixture(scope="module")
def old(world: ReportWorld) -> dict[str, Artifact]:
    """The run as version 0.1 would have left it."""
    return old_world(world)


def found(world: ReportWorld, parents: dict[str, Artifact]) -> dict[str, Any]:
    config = world.config()
    results = collect(config, parents, load_tokenizer(config.student.model))
    for task in results["tasks"].values():  # version 0.1 did not say who graded, and analysed nothing
        del task["grader"], task["analysis"]
        for cell in task["cells"]:
            del cell["graders"]
    return {name: value for name, value in results.items() if name not in ABOUT_ARTIFACTS}


def test_results_are_those_of_todays_artifacts(
    world: ReportWorld, parents: dict[str, Artifact], old: dict[str, Artifact]
) -> None:
    assert {artifact.manifest.is_old for artifact in old.values()} == {True}
    assert not any(role.startswith("grades/") for role in old)
    assert found(world, old) == found(world, parents)
    config = world.config()
    rows = collect(config, old, load_tokenizer(config.student.model))["costs"]
    assert all(row["evaluation"]["seconds"] is not None for row in rows)


def test_the_report_stage_makes_its_page_of_them(
    world: ReportWorld, report: Path, old: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal results have equal figures, which are drawn once."""

    def drawn(_results: object, folder: Path, _progress: object) -> list[str]:
        shutil.copytree(report / "figures", folder, dirs_exist_ok=True)
        return sorted(path.name for path in folder.iterdir())

    monkeypatch.setattr(figures, "draw_all", drawn)
    config = world.config()
    node = replace(build_graph(config)[-1], parents={role: role for role in old})
    made = run_node(Store(world.root / "drawn"), config, node, old).artifact
    page = made.file("index.html").read_text(encoding="utf-8")
    for artifact in old.values():
        assert artifact.fingerprint[:12] in page


def test_samples_that_contradict_the_summary_are_refused(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"summary": lambda row: {**row, "n_correct": row["n_correct"] + 1}}
    world = ReportWorld(tmp_path, thresholds=(0.6,), variants={"trims": {}}, **wrong)
    parents = old_world(world)
    with pytest.raises(ReportError, match=r"cells\.json, untuned on demo at one token.* in the samples"):
        found(world, parents)


def test_a_table_it_cannot_read_is_one_line(
    tmp_path: Path, world: ReportWorld, old: dict[str, Artifact]
) -> None:
    sweep = old["sweep/untuned"]
    files = {name: sweep.file(name).read_bytes() for name in sweep.manifest.entries}
    name = "cells/demo-tone-dual.parquet"
    pq.write_table(pq.read_table(sweep.file(name)).drop_columns("n_forwards"), tmp_path / "cut")
    cut = write_old(tmp_path, "sweep/untuned", {**files, name: (tmp_path / "cut").read_bytes()})
    with pytest.raises(SchemaError, match=r"missing columns .'n_forwards'.") as caught:
        found(world, {**old, "sweep/untuned": Store(tmp_path).open(cut)})
    assert "\n" not in str(caught.value)
