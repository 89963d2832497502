"""results.json holds every number with its n, and the same artifacts give the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.report_world import ReportWorld, Row, write_student

from trims_core.errors import ReportError
from trims_core.rendering import load_tokenizer
from trims_core.report.results import collect, to_json
from trims_core.report.tables import table_markdown
from trims_core.store import Artifact


def graded(right: dict[tuple[str, float | None], int]) -> Any:
    """An edit that makes the first so many problems of a cell right."""

    def edit(model: str, threshold: float | None, rows: list[Row]) -> list[Row]:
        for i, row in enumerate(rows):
            row["correct"] = i < right[model, threshold]
        return rows

    return edit


def test_cells_hold_the_numbers_of_their_samples(tmp_path: Path) -> None:
    right = {("untuned", None): 30, ("untuned", 0.5): 10, ("trims-s0", None): 32, ("trims-s0", 0.5): 28}
    world = ReportWorld(tmp_path, thresholds=(0.5,), variants={"trims": {}}, edit=graded(right))
    results = collect(
        world.config(), world.parents(), load_tokenizer(str(write_student(tmp_path / "student")))
    )
    task = results["tasks"]["demo"]
    assert (task["n"], task["y_max_percent"]) == (40, 80.0)
    by_key = {(cell["model"], cell["threshold"]): cell for cell in task["cells"]}
    assert {key: cell["n_correct"] for key, cell in by_key.items()} == right
    trims = by_key["trims-s0", None]
    assert (trims["accuracy"], trims["n"], trims["tpf"], trims["tokens"], trims["forwards"]) == (
        0.8,
        40,
        1.0,
        800,
        800,
    )
    assert trims["n_unfinished"] == 2
    assert (trims["low"], trims["high"]) == pytest.approx((0.652427, 0.895000), abs=1e-6)
    # untuned falls by 50 points: only its first point counts
    assert task["numbers"]["untuned"]["aup"]["value"] == 75.0
    assert [pair["a"] + "-" + pair["b"] for pair in task["comparisons"]] == ["trims-untuned"]
    assert task["comparisons"][0]["one_token_per_forward"]["value"] == pytest.approx(0.05)
    # one threshold each, at different tokens per forward: nothing else can be compared
    assert (task["equal_tpf"]["range"], task["comparisons"][0]["verdict"]) == (None, "no shared range")


def test_curves_and_cells_are_those_of_the_main_cache_and_the_grid_has_all(
    results: dict[str, Any], parents: dict[str, Artifact]
) -> None:
    task = results["tasks"]["demo"]
    assert (task["rule"], task["cache"]) == ("threshold", "dual")
    assert len(task["cells"]) == 5 * 4
    assert {cell["cache"] for cell in task["cells"]} == {"dual"}
    assert list(task["caches"]) == ["none", "dual"]
    assert task["caches"]["dual"] == task["curves"]["untuned"]
    listed = json.loads(parents["grades/untuned"].file("cells.json").read_text())
    for cache in ("dual", "none"):
        wanted = [row for row in listed if row["cache"] == cache]
        points = task["caches"][cache]
        assert [point["threshold"] for point in points] == [None, 0.9, 0.6, 0.3]
        for name in ("tokens_per_second", "n"):
            assert [point[name] for point in points] == pytest.approx([row[name] for row in wanted])
        assert [point["accuracy"] for point in points] == [row["n_correct"] / row["n"] for row in wanted]
        assert [point["tpf"] for point in points] == pytest.approx(
            [row["tokens"] / row["forwards"] for row in wanted], abs=1e-6
        )
    assert task["caches"]["dual"][0]["tokens_per_second"] > task["caches"]["none"][0]["tokens_per_second"]


def test_methods_and_caches_are_tabled_with_accuracy_parallelism_and_speed(
    report: Path, results: dict[str, Any]
) -> None:
    text = (report / "table.md").read_text(encoding="utf-8")
    task = results["tasks"]["demo"]
    for curves in (task["curves"], task["caches"]):
        points = [next(point for point in curve if point["threshold"] == 0.6) for curve in curves.values()]
        shown = [
            f"{100 * p['accuracy']:.1f} [{100 * p['low']:.1f}, {100 * p['high']:.1f}] | {p['tpf']:.2f}"
            f" | {p['tokens_per_second']:.0f}"
            for p in points
        ]
        assert f"| threshold 0.6 | {' | '.join(shown)} |" in text
    assert "n = 40, means of 2 seeds;" in text


def test_without_further_caches_there_is_no_grid_and_the_exact_one_is_called_exact(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path, thresholds=(0.6,), variants={"trims": {}})
    results = collect(world.config(), world.parents(), load_tokenizer(world.config().student.model))
    assert results["tasks"]["demo"]["caches"] == {}
    assert "Cache none: every forward sees the canvas as it is, which is exact." in table_markdown(results)


def test_points_of_a_rising_rule_go_from_the_least_parallel_to_the_most(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path, variants={"trims": {}}, sweep={"rule": "entropy"})
    results = collect(world.config(), world.parents(), load_tokenizer(world.config().student.model))
    points = results["tasks"]["demo"]["curves"]["untuned"]
    assert [point["threshold"] for point in points] == [None, 0.3, 0.6, 0.9]
    assert "| entropy 0.6 nats |" in table_markdown(results)


def test_collecting_twice_gives_the_same_bytes(world: ReportWorld, parents: dict[str, Artifact]) -> None:
    config = world.config()
    tokenizer = load_tokenizer(config.student.model)
    first = to_json(collect(config, parents, tokenizer))
    assert to_json(collect(config, parents, tokenizer)) == first


def test_results_are_strict_json_without_paths_of_this_machine(report: Path, world: ReportWorld) -> None:
    text = (report / "results.json").read_text(encoding="utf-8")

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    results = json.loads(text, parse_constant=refuse)
    student = results["provenance"].pop("student")  # a setting, shown as the user wrote it
    assert student == [world.config().student.model]
    assert str(world.root) not in json.dumps(results)


def test_every_stage_is_listed_with_seconds_counts_and_fingerprint(
    results: dict[str, Any], parents: dict[str, Artifact]
) -> None:
    rows = {row["node"]: row for row in results["stages"]}
    assert rows.keys() == parents.keys()
    assert rows["scores"]["counts"] == {"n_in": 9, "n_out": 9, "n_rejected": 0}
    for role, artifact in parents.items():
        assert rows[role]["seconds"] == artifact.manifest.seconds
        assert rows[role]["fingerprint"] == artifact.fingerprint


def test_losses_are_there_for_every_trained_model(results: dict[str, Any]) -> None:
    assert set(results["losses"]) == {"standard-s0", "standard-s1", "trims-s0", "trims-s1"}
    entry = results["losses"]["trims-s1"]
    assert (entry["method"], entry["n_logged"], len(entry["train"])) == ("trims", 300, 150)
    assert [step for step, _ in entry["eval"]] == [50, 100, 150, 200, 250, 300]


def test_a_loss_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    world = ReportWorld(
        tmp_path, thresholds=(0.6,), variants={"standard": {"method": "standard"}}, loss=float("inf")
    )
    parents = world.parents()
    with pytest.raises(
        ReportError, match=r"train/standard-s0: metrics\.jsonl has losses that are not finite"
    ):
        collect(world.config(), parents, load_tokenizer(world.config().student.model))


def test_a_partial_report_says_n_of_n_where_everybody_looks(tmp_path: Path) -> None:
    world = ReportWorld(
        tmp_path,
        report={"partial": True},
        edit=lambda model, t, rows: None if (model, t) == ("trims-s0", 0.3) else rows,
    )
    results = collect(
        world.config(), world.parents(), load_tokenizer(world.config().student.model), partial=True
    )
    assert results["coverage"]["cells_found"] == 11
    assert results["caveats"][0] == (
        "Partial report: 11 of 12 cells. Missing: trims-s0 on demo at threshold 0.3."
    )
    assert "Partial report: 11 of 12 cells" in table_markdown(results)


def test_the_table_shows_every_cell_and_every_verdict(report: Path, results: dict[str, Any]) -> None:
    text = (report / "table.md").read_text(encoding="utf-8")
    for cell in results["tasks"]["demo"]["cells"]:
        threshold = "one" if cell["threshold"] is None else f"{cell['threshold']:g}"
        assert f"| {cell['model']} | {threshold} | 40 | {100 * cell['accuracy']:.1f} [" in text
    for pair in results["tasks"]["demo"]["comparisons"]:
        assert pair["sentence"] in text
    for line in text.splitlines():
        if line.startswith("| ---"):
            assert set(line) <= set("|-: ")
