"""Several runs side by side: the numbers of each alone, equal models once, and no mixing of protocols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.report_world import ReportWorld, Row, write_student

from trims_core.errors import ReportError
from trims_core.rendering import load_tokenizer
from trims_core.report.played import played_samples
from trims_core.report.results import collect, collect_runs, to_json
from trims_core.report.runs import Run
from trims_core.report.tables import table_markdown
from trims_core.store import Artifact

BOTH: Mapping[str, Mapping[str, object]] = {"standard": {"method": "standard"}, "trims": {"method": "trims"}}


def world(root: Path, **settings: Any) -> ReportWorld:
    """A run of two seeds and three points per curve."""
    return ReportWorld(root, **{"seeds": (0, 1), "thresholds": (0.9, 0.3), **settings})


def run_of(of: ReportWorld, label: str = "", **inputs: str) -> Run:
    """The run of a world; `inputs` stand in its grades' manifests."""
    parents = of.parents()
    for role, artifact in parents.items():
        if role.startswith("grades/") and inputs:
            found = replace(artifact.manifest, inputs=inputs)
            parents[role] = Artifact(artifact.path, found)
    return Run(of.config(), parents, label)


def results_of(*runs: Run, **options: Any) -> dict[str, Any]:
    return collect_runs(
        runs, load_tokenizer(str(write_student(Path(runs[0].config.student.model)))), **options
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """Two runs in two stores; `trims` has other buckets in the second, `standard` is in the first alone."""
    root = tmp_path_factory.mktemp("runs")
    first = world(root / "a", variants=BOTH)
    second = world(root / "b", variants={"trims": BOTH["trims"]}, k=5, effect=lambda _config: 0.05)
    return run_of(first, "a"), run_of(second, "b")


@pytest.fixture(scope="module")
def together(runs: tuple[Run, Run]) -> dict[str, Any]:
    return results_of(*runs)


def test_every_method_bears_its_runs_label_and_the_same_student_appears_once(
    together: dict[str, Any],
) -> None:
    assert [method["name"] for method in together["methods"]] == [
        "untuned",
        "a:standard",
        "a:trims",
        "b:trims",
    ]
    assert list(together["tasks"]["demo"]["curves"]) == ["untuned", "a:standard", "a:trims", "b:trims"]
    models = {cell["model"] for cell in together["tasks"]["demo"]["cells"]}
    assert models == {"untuned", "a:standard-s0", "a:standard-s1", "a:trims-s0", "a:trims-s1"} | {
        "b:trims-s0",
        "b:trims-s1",
    }
    assert together["coverage"]["cells_expected"] == 7 * 3


def test_the_numbers_of_a_run_are_those_of_the_run_alone(
    runs: tuple[Run, Run], together: dict[str, Any]
) -> None:
    found = together["tasks"]["demo"]
    for run in runs:
        alone = collect(run.config, run.parents, load_tokenizer(run.config.student.model))
        task = alone["tasks"]["demo"]
        for method in run.config.train.variants:
            name = f"{run.label}:{method}"
            assert found["curves"][name] == task["curves"][method]
            own, mine = found["numbers"][name], task["numbers"][method]
            assert own["one_token_per_forward"] == mine["one_token_per_forward"]
            cells = [{**one, "model": "", "method": ""} for one in task["cells"] if one["method"] == method]
            here = [{**one, "model": "", "method": ""} for one in found["cells"] if one["method"] == name]
            assert here == cells != []
            for model, entry in alone["losses"].items():
                if entry["method"] == method:
                    assert together["losses"][f"{run.label}:{model}"] == {**entry, "method": name}
            costs = {row["method"]: row for row in together["costs"]}
            (cost,) = (row for row in alone["costs"] if row["method"] == method)
            assert costs[name] == {**cost, "method": name}
    assert found["curves"]["untuned"] == task["curves"]["untuned"]


def test_the_analysis_is_of_all_runs_with_each_ones_own_numbers(
    runs: tuple[Run, Run], together: dict[str, Any]
) -> None:
    found = together["tasks"]["demo"]["analysis"]
    assert list(found["order"]) == list(together["tasks"]["demo"]["curves"])
    assert {"a:trims", "b:trims", "a:standard", "untuned"} == set(found["trajectories"])
    for run in runs:
        alone = results_of(run)["tasks"]["demo"]["analysis"]
        for part in ("order", "trajectories"):
            assert found[part][f"{run.label}:trims"] == alone[part]["trims"]
        ece = alone["calibration"]["trims"]["ece"]
        assert found["calibration"][f"{run.label}:trims"]["ece"] == ece
    assert ("b:trims", "a:trims") in {(row["a"], row["b"]) for row in found["changed"]}
    tokenizer = load_tokenizer(str(runs[0].config.student.model))
    (problem, *_) = played_samples(runs, tokenizer)["tasks"]["demo"]["problems"]
    assert len([one for one in problem["answers"] if "difficulty" in one]) == len(found["order"])


def test_an_analysis_at_another_point_is_left_out_and_named(runs: tuple[Run, Run]) -> None:
    first, second = runs
    artifact = second.parents["analysis"]
    info = {**artifact.manifest.info, "teacher": "another"}
    other = Artifact(artifact.path, replace(artifact.manifest, info=info))
    results = results_of(first, replace(second, parents={**second.parents, "analysis": other}))
    assert set(results["tasks"]["demo"]["analysis"]["order"]) == {"a:trims", "a:standard", "untuned"}
    (told,) = [line for line in results["caveats"] if line.startswith("The analysis shows a ")]
    assert "b looked at another point or asked another teacher" in told
    without = {role: one for role, one in second.parents.items() if role != "analysis"}
    results = results_of(first, replace(second, parents=without))
    assert "b:trims" not in results["tasks"]["demo"]["analysis"]["order"]
    assert not [line for line in results["caveats"] if line.startswith("The analysis shows")]


def test_by_default_each_method_stands_against_the_first_runs_of_that_name(together: dict[str, Any]) -> None:
    (pair,) = together["tasks"]["demo"]["comparisons"]
    assert (pair["a"], pair["b"], pair["seeds"]) == ("b:trims", "a:trims", [0, 1])
    assert pair["one_token_per_forward"]["value"] > 0
    assert "b:trims and a:trims" in pair["sentence"] or "b:trims is ahead" in pair["sentence"]


def test_pairs_may_be_named_and_an_unknown_method_is_refused_with_the_nearest_name(
    runs: tuple[Run, Run],
) -> None:
    found = results_of(*runs, pairs=[("b:trims", "a:standard"), ("b:trims", "untuned")])
    comparisons = found["tasks"]["demo"]["comparisons"]
    assert [(one["a"], one["b"]) for one in comparisons] == [
        ("b:trims", "a:standard"),
        ("b:trims", "untuned"),
    ]
    with pytest.raises(ReportError, match=r"no method 'b:trim' on this page; did you mean 'b:trims'\?"):
        results_of(*runs, pairs=[("b:trim", "a:trims")])


def test_runs_without_a_method_of_one_name_get_the_pairs_of_one_run(tmp_path: Path) -> None:
    first = world(tmp_path / "a", variants={"standard": BOTH["standard"]})
    second = world(tmp_path / "b", variants={"trims": BOTH["trims"]})
    found = results_of(run_of(first, "a"), run_of(second, "b"))["tasks"]["demo"]
    pairs = [(one["a"], one["b"]) for one in found["comparisons"]]
    assert pairs == [("b:trims", "a:standard"), ("a:standard", "untuned"), ("b:trims", "untuned")]


def test_stages_and_settings_are_labelled_and_what_runs_share_is_listed_once(
    runs: tuple[Run, Run], together: dict[str, Any]
) -> None:
    nodes = [row["node"] for row in together["stages"]]
    assert {
        "corpus",
        "scores",
        "aligned",
        "sweep/untuned",
        "a:buckets",
        "b:buckets",
        "b:train/trims-s0",
    } < set(nodes)
    assert len(nodes) == len(set(nodes))
    configs = together["provenance"]["config"]
    assert {label: one["buckets"]["k"] for label, one in configs.items()} == {"a": 4, "b": 5}
    assert [(one["label"], one["buckets"]["k"]) for one in together["runs"]] == [("a", 4), ("b", 5)]
    assert together["runs"][1]["methods"] == {"untuned": "untuned", "trims": "b:trims"}
    assert any("those of a; the buckets of b are others" in line for line in together["caveats"])


def test_a_method_that_some_runs_share_bears_the_label_of_the_first_one(tmp_path: Path) -> None:
    shared = run_of(world(tmp_path / "a", variants=BOTH), "a")
    again = run_of(world(tmp_path / "a", variants=BOTH), "b")
    other = run_of(world(tmp_path / "c", variants=BOTH, k=5), "c")
    found = results_of(shared, again, other)
    names = [method["name"] for method in found["methods"]]
    assert names == ["untuned", "a:standard", "a:trims", "c:standard", "c:trims"]
    assert found["runs"][1]["methods"]["trims"] == "a:trims"
    assert [(one["a"], one["b"]) for one in found["tasks"]["demo"]["comparisons"]][-1] == (
        "c:trims",
        "a:trims",
    )


def test_untuned_students_that_differ_are_two(tmp_path: Path) -> None:
    strong = {"untuned": 0.9, "standard": 0.8, "trims": 0.84}
    first, second = world(tmp_path / "a"), world(tmp_path / "b", skill=strong)
    found = results_of(run_of(first, "a"), run_of(second, "b"))
    curves = found["tasks"]["demo"]["curves"]
    assert {"a:untuned", "b:untuned"} < set(curves)
    assert curves["a:untuned"][0]["accuracy"] < curves["b:untuned"][0]["accuracy"]


def test_a_model_that_another_store_holds_other_answers_of_is_another(tmp_path: Path) -> None:
    """As after decoding on another machine; the keys of both are the same."""
    first, second = world(tmp_path / "a"), world(tmp_path / "b", effect=lambda _config: 0.1)
    found = results_of(run_of(first, "here"), run_of(second, "there"))
    names = [method["name"] for method in found["methods"]]
    assert names == ["untuned", "here:standard", "here:trims", "there:standard", "there:trims"]
    keys = {row["node"]: row["fingerprint"] for row in found["stages"]}
    assert keys["here:sweep/trims-s0"] == keys["there:sweep/trims-s0"]


def test_two_runs_of_one_label_are_refused(runs: tuple[Run, Run]) -> None:
    first, second = runs
    with pytest.raises(ReportError, match="a: the label of several runs"):
        results_of(first, replace(second, label="a"))


def _asked(**task: object) -> dict[str, object]:
    return {"tasks": {"demo": {"benchmark": "demo", **task}}, "gen_length": 32, "block_length": 32}


@pytest.mark.parametrize(
    ("sweep", "says"),
    [
        (_asked(gen_length=64), "gen_length 32 in a and 64 in b"),
        (_asked(stop_strings=["###"]), r"stop_strings \(\) in a and \('###',\) in b"),
        ({"cache": "dual"}, "cache 'none' in a and 'dual' in b"),
        ({"rule": "entropy", "thresholds": [0.9, 0.3]}, "rule 'threshold' in a and 'entropy' in b"),
        (
            {"tasks": {"demo": {"profile": "demo@demo", "gen_length": 32, "block_length": 32}}},
            "profile None in a and 'demo@demo' in b",
        ),
        ({"tasks": {"demo": {"benchmark": "gsm8k"}}}, "benchmark 'demo' in a and 'gsm8k' in b"),
    ],
)
def test_tasks_that_are_asked_or_decoded_otherwise_are_not_mixed(
    tmp_path: Path, sweep: dict[str, Any], says: str
) -> None:
    first = Run(world(tmp_path / "a").config(), {}, "a")
    second = Run(world(tmp_path / "b", sweep=sweep).config(), {}, "b")
    with pytest.raises(ReportError, match=rf"cannot be compared:\n  task demo: .*{says}"):
        results_of(first, second)


@pytest.mark.parametrize(
    ("name", "says"),
    [("benchmark.demo", "digest of the problems 'x' in a and 'y' in b"), ("grader.demo", "graders 'x' in a")],
)
def test_other_problems_and_other_graders_are_not_mixed(tmp_path: Path, name: str, says: str) -> None:
    common = {"benchmark.demo": "x", "grader.demo": "x"}
    first = run_of(world(tmp_path / "a"), "a", **common)
    with pytest.raises(ReportError, match=f"task demo: {says}"):
        results_of(first, run_of(world(tmp_path / "b"), "b", **{**common, name: "y"}))
    results_of(first, run_of(world(tmp_path / "b"), "b", **common))


def test_runs_with_other_points_are_compared_and_other_numbers_of_problems_are_not(tmp_path: Path) -> None:
    first = run_of(world(tmp_path / "a"), "a")
    found = results_of(first, run_of(world(tmp_path / "b", thresholds=(0.9, 0.6, 0.3)), "b"))
    assert len(found["tasks"]["demo"]["curves"]["b:trims"]) == 4
    with pytest.raises(ReportError, match=r"cells hold different problems: b:untuned on demo"):
        results_of(first, run_of(world(tmp_path / "c", n=30), "b"))


def test_machines_of_different_runs_are_not_mixed(tmp_path: Path) -> None:
    here = {"device": "CPU x", "dtype": "float32", "torch": "2.13.0", "cuda": None, "masks_pads": True}

    def noted(device: str) -> Any:
        def summary(row: Row) -> Row:
            return {**row, "machines": [{**here, "device": device}]}

        return summary

    first = run_of(world(tmp_path / "a", summary=noted("CPU x")), "a")
    second = run_of(world(tmp_path / "b", summary=noted("CPU y"), k=5), "b")
    with pytest.raises(ReportError, match=r"b:standard-s0 on demo at .* with CPU y"):
        results_of(first, second)


def test_the_same_runs_give_the_same_bytes_and_the_tables_carry_the_labels(
    runs: tuple[Run, Run], together: dict[str, Any]
) -> None:
    assert to_json(results_of(*runs)) == to_json(together)
    text = table_markdown(together)
    assert "| b:trims − a:trims | mean over" in text
    assert "| b:trims-s1 | 0.3 | 40 |" in text
