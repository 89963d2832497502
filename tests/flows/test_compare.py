"""`trims compare`: configs, stores and reports on one page. Fake stages, no Prefect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.ablation_world import made, stand_in, write_config
from fakes.report_world import ReportWorld
from typer.testing import CliRunner

from flows.cli import app
from trims_core.latest import point_latest
from trims_core.rendering import load_tokenizer
from trims_core.report.results import collect

VARIANTS = {"standard": {"method": "standard"}, "trims": {}}


def world(root: Path, **settings: Any) -> ReportWorld:
    return ReportWorld(root, **{"seeds": (0, 1), "thresholds": (0.9, 0.3), "variants": VARIANTS, **settings})


def trims(*words: str | Path) -> tuple[int, str]:
    """Exit code and everything printed, on lines that do not wrap."""
    found = CliRunner().invoke(app, ["compare", *map(str, words)], env={"COLUMNS": "400"})
    return found.exit_code, found.output


def results_at(page: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((page.parent / "results.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportWorld, ReportWorld]:
    """Two runs in two stores; the second has other buckets."""
    root = tmp_path_factory.mktemp("compare")
    first, second = world(root / "a"), world(root / "b", k=5)
    for one in (first, second):
        one.parents()
        write_config(one)
    return first, second


@pytest.fixture(autouse=True)
def _stages(worlds: tuple[ReportWorld, ReportWorld], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(worlds[0], monkeypatch)


@pytest.fixture
def configs(worlds: tuple[ReportWorld, ReportWorld]) -> tuple[Path, Path]:
    return worlds[0].root / "world.yaml", worlds[1].root / "world.yaml"


def test_two_configs_are_compared_under_their_labels_and_nothing_is_made(
    worlds: tuple[ReportWorld, ReportWorld], configs: tuple[Path, Path]
) -> None:
    code, said = trims(*configs, "--label", "few", "--label", "many")
    page = worlds[0].root / "store" / "compared" / "few+many" / "index.html"
    assert (code, said.splitlines()[-1]) == (0, f"report: {page}")
    assert not made
    found = results_at(page)
    names = [method["name"] for method in found["methods"]]
    assert names == ["untuned", "few:standard", "few:trims", "many:standard", "many:trims"]
    pairs = [(one["a"], one["b"]) for one in found["tasks"]["demo"]["comparisons"]]
    assert pairs == [("many:standard", "few:standard"), ("many:trims", "few:trims")]
    config = worlds[1].config()
    alone = collect(config, worlds[1].parents(), load_tokenizer(config.student.model))
    mine = alone["tasks"]["demo"]["curves"]["trims"]
    assert found["tasks"]["demo"]["curves"]["many:trims"] == mine
    for name in ("table.md", "figures/curve-demo.png", "figures/curve-demo.svg"):
        assert (page.parent / name).stat().st_size > 0
    assert "many:trims" in page.read_text(encoding="utf-8")
    assert list(found["tasks"]["demo"]["analysis"]["order"]) == names  # made beside the grades: shown


def test_one_config_in_another_store_and_chosen_pairs(
    worlds: tuple[ReportWorld, ReportWorld], configs: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    other = f"{configs[1]}@{worlds[1].root / 'store'}"
    words = ("--label", "a", "--label", "b", "--pairs", "b:trims,a:standard", "--out", out)
    code, said = trims(configs[0], other, *words)
    assert code == 0, said
    (pair,) = results_at(out / "index.html")["tasks"]["demo"]["comparisons"]
    assert (pair["a"], pair["b"]) == ("b:trims", "a:standard")
    code, said = trims(configs[0], f"{configs[1]}@{tmp_path / 'nowhere'}", *words)
    assert (code, "nowhere: no such store" in said) == (66, True)


def test_a_reports_folder_stands_for_its_run_and_its_own_settings(
    worlds: tuple[ReportWorld, ReportWorld], configs: tuple[Path, Path], tmp_path: Path
) -> None:
    made_report = worlds[1].make_report().artifact
    link = point_latest(worlds[1].root / "store", "world", made_report.path)
    configs[1].rename(configs[1].with_suffix(".gone"))
    words = ("--label", "a", "--label", "b", "--out", tmp_path / "out")
    try:
        code, said = trims(configs[0], link, *words, "--set", "report.examples=1")
    finally:
        configs[1].with_suffix(".gone").rename(configs[1])
    assert code == 0, said
    found = results_at(tmp_path / "out" / "index.html")
    assert [(one["label"], one["buckets"]["k"]) for one in found["runs"]] == [("a", 4), ("b", 5)]
    assert len(found["examples"]) == 1
    code, said = trims(configs[0], link, *words, "--set", "buckets.k=4")
    assert (code, "expected report.… alone" in said) == (2, True)
    code, said = trims(configs[0], worlds[1].root / "store", *words)
    assert (code, "no report's folder; expected a config file" in said) == (2, True)


def test_what_was_never_made_is_named_with_the_command_that_makes_it(
    configs: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ("--label", "a", "--label", "b", "--out", tmp_path / "out", "--set", "train.seeds=[0, 7]")
    code, said = trims(*configs, *words)
    assert code == 66
    command = f"trims run {configs[0]} --set 'train.seeds=[0, 7]' --until train/standard-s7"
    assert "train/standard-s7 has not been made" in said and f"`{command}`" in said
    assert not made and not (tmp_path / "out").exists()


def test_a_page_is_written_again_as_it_was_and_never_over_something_else(
    configs: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = (*configs, "--label", "a", "--label", "b", "--out", out)
    assert trims(*words)[0] == 0
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "old.txt").write_text("of an earlier comparison")
    assert trims(*words)[0] == 0
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    results = out / "results.json"
    for content in ("not JSON", "[]", json.dumps({**json.loads(results.read_text()), "runs": None})):
        results.write_text(content)
        code, said = trims(*words)
        assert (code, "is something else than a comparison" in said) == (1, True)
        assert results.read_text() == content
    (tmp_path / "file").write_text("x")
    assert "is something else" in trims(*words[:-1], tmp_path / "file")[1]


def test_tasks_of_different_protocols_are_refused(configs: tuple[Path, Path], tmp_path: Path) -> None:
    report = world(tmp_path / "c", sweep={"cache": "dual"}).make_report().artifact.path
    out = tmp_path / "out"
    code, said = trims(configs[0], report, "--label", "a", "--label", "c", "--out", out)
    assert (code, "task demo: cache 'none' in a and 'dual' in c" in said) == (1, True), said
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "one run; expected two or more"),
        (("@b",), "world: several runs are called so; name each, as in --label world-a --label world-b"),
        (("@b", "--label", "a"), "--label: 1 for 2 runs"),
        (("@b", "--label", "a", "--label", "b/c"), "--label 'b/c': expected letters"),
        (
            ("@b", "--label", "a", "--label", "b", "--pairs", "a:trims"),
            "--pairs a:trims: expected two methods",
        ),
        (
            ("@b", "--label", "a", "--label", "b", "--pairs", "a:trims,b:trms"),
            "no method 'b:trms' on this page; did you mean 'b:trims'?",
        ),
    ],
)
def test_wrong_words_are_refused(configs: tuple[Path, Path], words: tuple[str, ...], says: str) -> None:
    given = [configs[1] if word == "@b" else word for word in words]
    code, said = trims(configs[0], *given)
    assert code in (1, 2)
    assert says in said


def test_comparisons_are_no_stage_of_a_store(
    worlds: tuple[ReportWorld, ReportWorld], configs: tuple[Path, Path]
) -> None:
    from trims_core.store import Store

    assert trims(*configs, "--label", "a", "--label", "b")[0] == 0
    assert "compared" not in Store(worlds[0].root / "store").stages()
