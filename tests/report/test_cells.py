"""Cells are complete, agree with their summaries and hold the same problems, or the report refuses."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.report_world import ReportWorld, Row

from trims_core.errors import ReportError
from trims_core.report.cells import Cell, Coverage, Model, expected_keys, load_cells, read_cells
from trims_core.report.runs import Run


def load(world: ReportWorld, *, partial: bool = False) -> tuple[list[Cell], Coverage]:
    """The cells of a made-up run."""
    return load_cells([Run(world.config(), world.parents())], partial=partial)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ReportWorld:
    """A run in which nothing is missing or wrong."""
    return ReportWorld(tmp_path_factory.mktemp("plain"))


def test_every_configured_cell_is_loaded_in_the_order_of_the_settings(plain: ReportWorld) -> None:
    cells, coverage = load(plain)
    assert [cell.key for cell in cells] == expected_keys(plain.config())
    assert (coverage.n_expected, coverage.n_found, coverage.missing) == (12, 12, ())
    assert {cell.n for cell in cells} == {40}


def without_two_cells(model: str, threshold: float | None, rows: list[Row]) -> list[Row] | None:
    return None if (model, threshold) in {("trims-s0", 0.6), ("untuned", None)} else rows


def test_cells_of_further_caches_are_expected_of_the_untuned_student_alone(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path, sweep={"cache": "dual", "compare_caches": ["prefix", "none"]})
    cells, _ = load(world)
    assert [cell.key for cell in cells] == expected_keys(world.config())
    caches = {model: {c.cache for c in cells if c.model == model} for model in ("untuned", "trims-s0")}
    assert caches == {"untuned": {"dual", "prefix", "none"}, "trims-s0": {"dual"}}


def test_a_missing_cell_is_named_with_its_cache(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path, sweep={"cache": "dual"}, edit=without_two_cells)
    with pytest.raises(ReportError, match=r"trims-s0 on demo at threshold 0\.6 with cache dual"):
        load(world)


def test_missing_cells_are_refused_by_name_and_listed_in_a_partial_report(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path, edit=without_two_cells)
    with pytest.raises(ReportError) as refusal:
        load(world)
    message = str(refusal.value)
    assert "2 of 12 cells are missing" in message
    assert "untuned on demo at one token per forward" in message
    assert "trims-s0 on demo at threshold 0.6" in message
    cells, coverage = load(world, partial=True)
    assert len(cells) == coverage.n_found == 10
    assert "trims-s0 on demo at threshold 0.6" in coverage.missing


def test_a_sweep_that_lacks_a_whole_model_is_refused(plain: ReportWorld) -> None:
    there = {role: a for role, a in plain.parents().items() if role in ("sweep/untuned", "grades/untuned")}
    with pytest.raises(ReportError, match="8 of 12 cells are missing"):
        load_cells([Run(plain.config(), there)])


def test_samples_without_grades_are_missing_cells(plain: ReportWorld) -> None:
    there = {role: a for role, a in plain.parents().items() if role != "grades/trims-s0"}
    with pytest.raises(ReportError, match="4 of 12 cells are missing: trims-s0 on demo"):
        load_cells([Run(plain.config(), there)])


def test_no_cell_at_all_is_refused_even_in_a_partial_report(plain: ReportWorld) -> None:
    with pytest.raises(ReportError, match="none of the 12 cells"):
        load_cells([Run(plain.config(), {})], partial=True)


def shortened(model: str, threshold: float | None, rows: list[Row]) -> list[Row]:
    return rows[:31] if (model, threshold) == ("standard-s0", 0.9) else rows


def test_a_cell_with_fewer_problems_is_refused_and_a_partial_report_counts_shared_ones(
    tmp_path: Path,
) -> None:
    world = ReportWorld(tmp_path, edit=shortened)
    with pytest.raises(ReportError, match=r"standard-s0 on demo at threshold 0\.9 \(n = 31\)"):
        load(world)
    cells, coverage = load(world, partial=True)
    assert {cell.n for cell in cells} == {31}
    assert coverage.reduced == ("demo: only the 31 of 40 problems that all cells share are counted",)
    assert all(cell.correct_N.shape == (31,) for cell in cells)


def renamed(model: str, threshold: float | None, rows: list[Row]) -> list[Row]:
    if (model, threshold) == ("trims-s0", 0.3):
        rows[5]["sample_id"] = "elsewhere"
    return rows


def test_equal_counts_of_other_problems_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="other sample ids"):
        load(ReportWorld(tmp_path, edit=renamed))


def doubled(model: str, threshold: float | None, rows: list[Row]) -> list[Row]:
    rows[1]["sample_id"] = rows[0]["sample_id"]
    return rows


def test_a_problem_that_occurs_twice_in_a_cell_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="occurs twice"):
        load(ReportWorld(tmp_path, edit=doubled))


def graded_anew(world: ReportWorld, root: Path, **changes: Any) -> ReportWorld:
    """A copy of a finished run, its grades still to be put together."""
    world.parents()
    shutil.copytree(world.root / "store", root / "store")
    shutil.rmtree(root / "store" / "grades")
    return replace(world, root=root, **changes)


@pytest.mark.parametrize("field", ["n", "n_correct", "tokens", "forwards", "n_unfinished"])
def test_a_summary_that_contradicts_its_samples_is_refused(
    plain: ReportWorld, tmp_path: Path, field: str
) -> None:
    def wrong(row: Mapping[str, Any]) -> Row:
        off = row["model"] == "untuned" and row["threshold"] == 0.6
        return {**row, field: row[field] + 1} if off else dict(row)

    with pytest.raises(
        ReportError, match=rf"untuned on demo at threshold 0\.6: {field} \d+ but \d+ in the samples"
    ):
        load(graded_anew(plain, tmp_path, summary=wrong))


def backwards(model: str, threshold: float | None, rows: list[Row]) -> list[Row]:
    return rows[::-1] if model == "trims-s0" else rows


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> ReportWorld:
    return ReportWorld(tmp_path_factory.mktemp("turned"), edit=backwards)


def test_the_order_of_rows_does_not_matter(plain: ReportWorld, turned: ReportWorld) -> None:
    for one, other in zip(load(plain)[0], load(turned)[0], strict=True):
        assert one.sample_ids == other.sample_ids
        np.testing.assert_array_equal(one.correct_N, other.correct_N)


def failed(model: str, threshold: float | None, rows: list[Row]) -> list[Row]:
    """The grader fails on the first two problems."""
    verdicts = ("error", "timeout")
    changed = [{**row, "correct": False, "verdict": v} for row, v in zip(rows, verdicts, strict=False)]
    return [*changed, *rows[2:]]


def test_an_answer_that_could_not_be_graded_is_counted_and_not_right(tmp_path: Path) -> None:
    cells, _ = load(ReportWorld(tmp_path, edit=failed))
    assert {cell.n_ungraded for cell in cells} == {2}
    assert {tuple(cell.correct_N[:2]) for cell in cells} == {(0.0, 0.0)}
    assert {cell.n for cell in cells} == {40}


MODEL = Model("trims-s0", "trims", 0)


def test_grades_of_another_sweep_are_refused(plain: ReportWorld, turned: ReportWorld, tmp_path: Path) -> None:
    one, other = plain.parents(), turned.parents()
    with pytest.raises(ReportError, match="or of other problems; expected one each"):
        read_cells(MODEL, one["sweep/trims-s0"], other["grades/trims-s0"])
    fewer = ReportWorld(tmp_path, thresholds=(0.9, 0.6)).parents()
    with pytest.raises(ReportError, match=r"its units are not those .* \(demo-t0\.3-none/0000"):
        read_cells(MODEL, one["sweep/trims-s0"], fewer["grades/trims-s0"])


def test_who_a_model_is_follows_from_the_settings_alone(plain: ReportWorld) -> None:
    parents = plain.parents()
    renamed_model = Model("ours-s3", "ours", 3)
    cells = read_cells(renamed_model, parents["sweep/trims-s0"], parents["grades/trims-s0"])
    assert {(cell.model, cell.variant, cell.seed) for cell in cells} == {("ours-s3", "ours", 3)}
