"""The report as a stage: what its key depends on, what it commits, and how light looking it up is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from fakes.report_world import ReportWorld

from trims_core.config import TrimsConfig
from trims_core.graph import build_graph
from trims_core.report.stage import SPEC
from trims_core.stage import node_key
from trims_core.store import Artifact, Store


def fingerprint(config: TrimsConfig, parents: dict[str, Artifact]) -> str:
    """Name of the report these settings and parents lead to."""
    return node_key(Store(config.store), SPEC, config, build_graph(config)[-1], parents).fingerprint


def test_a_shown_setting_changes_the_report_and_a_place_does_not(
    world: ReportWorld, parents: dict[str, Artifact], tmp_path: Path
) -> None:
    config = world.config()
    base = fingerprint(config, parents)
    titled = config.model_copy(update={"report": config.report.model_copy(update={"title": "Other"})})
    assert fingerprint(titled, parents) != base
    moved = config.model_copy(update={"store": str(tmp_path)})
    assert fingerprint(moved, parents) == base


def test_a_changed_parent_makes_another_report(world: ReportWorld, parents: dict[str, Artifact]) -> None:
    config = world.config()
    for role in ("sweep/trims-s0", "grades/trims-s0"):
        artifact = parents[role]
        less = dataclasses.replace(artifact.manifest, units=artifact.manifest.units[1:])
        other = dataclasses.replace(artifact, manifest=less)
        assert fingerprint(config, {**parents, role: other}) != fingerprint(config, parents)


def test_the_artifact_lists_page_results_table_and_figures(world: ReportWorld, report: Path) -> None:
    (artifact,) = Store(world.config().store).artifacts("report")
    assert artifact.path == report
    for name in (
        "index.html",
        "results.json",
        "samples.json",
        "table.md",
        "tables/demo-methods.csv",
        "tables/stages.csv",
        "figures/curve-demo.png",
        "figures/curve-demo.svg",
    ):
        assert artifact.file(name).stat().st_size > 0
    assert artifact.manifest.counts == {"n_in": 24, "n_out": 24}


def test_a_second_run_is_cached(world: ReportWorld, report: Path) -> None:
    again = world.make_report()
    assert (again.how, again.artifact.path) == ("cached", report)


def test_the_numbers_are_those_of_this_version(results: dict[str, Any]) -> None:
    """Origin: this report stage at version 4 (5 to 9 give the same). A change here needs another version."""
    task = results["tasks"]["demo"]
    assert (SPEC.version, results["results_version"]) == (9, 9)
    first = task["comparisons"][0]
    assert (first["a"], first["b"]) == ("trims", "standard")
    assert first["mean_over_range"] == {
        "value": 0.159162,
        "over_problems": {"low": 0.11392, "high": 0.221105},
        "over_seeds_and_problems": {"low": -0.279754, "high": 0.598077},
        "by_seed": {"0": 0.124667, "1": 0.193656},
        "p": 0.136695,
        "p_holm": 0.562197,
    }
    assert [row["value"] for row in first["at_level"]] == [0.153633, 0.266775]
    assert first["aup"]["value"] == 8.348273
    assert (first["mcnemar"]["p"], first["verdict"]) == (0.6875, "not told apart")
