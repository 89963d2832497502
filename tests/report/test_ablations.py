"""An ablation's rows are the comparison's own numbers, and its table and figure show each of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from fakes import ablation_world

from trims_core.ablations import Ablation, ablation_of, write_ablation
from trims_core.report.ablation_figure import ablation_jobs
from trims_core.report.ablations import ablation_results, ablations_table
from trims_core.report.contrast_tables import n_adjusted


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ablation, Path, dict[str, Any]]:
    """The ablation of a made-up run, its page and its results."""
    root = tmp_path_factory.mktemp("ablation")
    with pytest.MonkeyPatch.context() as patch:
        ablation = ablation_of(ablation_world.install(root, patch))
        ablation_world.make_all(ablation)
        page, results = write_ablation(ablation, lambda _note: None)
    return ablation, page, results


def test_every_value_has_its_accuracy_and_its_difference_to_the_base(
    written: tuple[Ablation, Path, dict[str, Any]],
) -> None:
    _, _, results = written
    found, ablations = results["tasks"]["demo"], results["ablations"]
    assert ablations["base"] == "base"
    rows = {(row["factor"], row["value"]): row for row in ablations["rows"]}
    assert list(rows) == [("order", "descending"), ("order", "ascending"), ("k", "2"), ("k", "4")]
    assert [row["is_base"] for row in rows.values()] == [True, False, False, True]
    pairs = {pair["a"]: pair for pair in found["comparisons"]}
    assert list(pairs) == ["order=ascending:trims", "k=2:trims"]
    for row in rows.values():
        numbers = row["tasks"]["demo"]
        assert numbers["accuracy"] == found["numbers"][row["method"]]["mean_over_range"]
        pair = pairs.get(row["method"])
        assert numbers["difference"] == (None if pair is None else pair["mean_over_range"])
    worse = rows["order", "ascending"]["tasks"]["demo"]["difference"]
    assert worse["value"] < -0.1 < rows["k", "2"]["tasks"]["demo"]["difference"]["value"]
    assert worse["p_holm"] >= worse["p"]


def test_the_arms_are_corrected_together(written: tuple[Ablation, Path, dict[str, Any]]) -> None:
    found = written[2]["tasks"]["demo"]
    n_levels = len(found["equal_tpf"]["levels"])
    assert n_adjusted(found) == 2 * (1 + n_levels)
    caption = ablations_table("demo", written[2]).caption
    assert f"adjusted (Holm) over the {2 * (1 + n_levels)} means and levels" in caption


def test_without_a_shared_range_arms_are_judged_at_the_fewest_equal_forwards(
    written: tuple[Ablation, Path, dict[str, Any]],
) -> None:
    ablation, _, results = written
    results = copy.deepcopy(results)
    found = results["tasks"]["demo"]
    found["equal_tpf"] |= {"range": None, "forwards": [6, 12]}
    for row in (*found["numbers"].values(), *found["comparisons"]):
        mean, row["mean_over_range"] = row["mean_over_range"], None
        row["at_forwards"] = [{**mean, "forwards": 6}, {**mean, "forwards": 12, "value": 0.0}]
    results["ablations"] = ablation_results(ablation, results)
    rows = [row["tasks"]["demo"] for row in results["ablations"]["rows"]]
    assert [row["difference"] and row["difference"]["forwards"] for row in rows] == [None, 6, 6, None]
    assert [row["accuracy"]["forwards"] for row in rows] == [6] * 4
    table = ablations_table("demo", results)
    assert "accuracy in %, at 6 forwards, [95 %]" in table.caption
    assert table.rows[1][3].startswith("−")
    assert list(ablation_jobs(results)) == ["ablations-demo"]


def test_the_folder_holds_the_table_and_the_figure(written: tuple[Ablation, Path, dict[str, Any]]) -> None:
    ablation, page, results = written
    assert page == Path(ablation.base.store) / "compared" / "world" / "index.html"
    assert json.loads((page.parent / "results.json").read_text()) == json.loads(json.dumps(results))
    text = (page.parent / "table.md").read_text()
    table = ablations_table("demo", results)
    assert table.markdown() in text
    assert [row[0] for row in table.rows] == [
        "order: descending (base)",
        "order: ascending",
        "k: 2",
        "k: 4 (base)",
    ]
    assert (page.parent / "figures" / "ablations-demo.svg").stat().st_size > 5000
    assert (page.parent / "figures" / "ablations-demo.png").is_file()


def test_the_untuned_student_stands_beside_the_arms_once(
    written: tuple[Ablation, Path, dict[str, Any]],
) -> None:
    names = [method["name"] for method in written[2]["methods"]]
    assert names == ["untuned", "base:trims", "order=ascending:trims", "k=2:trims"]
