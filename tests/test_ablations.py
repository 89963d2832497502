"""The arms that a config asks for: one at a time or as a grid, each once, refused together, sharing nodes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import ablation_world
from fakes.ablation_world import ORDER, made, make_all

from trims_core.ablations import Ablation, ablation_of, plan_of, write_ablation
from trims_core.errors import ConfigError, MissingArtifactError
from trims_core.graph import build_graph
from trims_core.settings import load_config
from trims_core.stage import load_spec, node_key
from trims_core.store import Store

DEMO = "configs/demo-ablations.yaml"


@pytest.fixture
def demo(tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The shipped ablation with other factors: real stages, which are asked for their keys alone."""
    monkeypatch.chdir(project_root)

    def asked(factors: dict[str, list[Any]], *overrides: str, **ablate: Any) -> Ablation:
        raw = yaml.safe_load(Path(DEMO).read_text())
        raw |= {"ablate": {**ablate, "factors": factors}, "store": str(tmp_path / "store")}
        path = tmp_path / "demo.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        return ablation_of(path, overrides)

    return asked


def labels(ablation: Ablation) -> list[str]:
    return [arm.label for arm in ablation.arms]


def rows(ablation: Ablation) -> list[tuple[str, str, str]]:
    return [(one.factor, one.value, one.label) for one in ablation.settings]


def own_steps(ablation: Ablation, label: str) -> list[str]:
    return [step.id.removeprefix(f"{label}/") for step in ablation.steps if step.id.startswith(f"{label}/")]


def test_one_at_a_time_changes_one_value_and_the_bases_own_is_the_base(demo: Any) -> None:
    ablation = demo({ORDER: ["descending", "ascending"], "buckets.k": [4, 8]})
    assert labels(ablation) == ["base", "order=ascending", "k=4"]
    assert rows(ablation) == [
        ("order", "descending", "base"),
        ("order", "ascending", "order=ascending"),
        ("k", "4", "k=4"),
        ("k", "8", "base"),
    ]
    found = {
        arm.label: (arm.config.train.variants["trims"].order, arm.config.buckets.k) for arm in ablation.arms
    }
    assert found == {"base": ("descending", 8), "order=ascending": ("ascending", 8), "k=4": ("descending", 4)}


def test_a_grid_has_every_combination(demo: Any) -> None:
    ablation = demo({ORDER: ["descending", "ascending"], "buckets.k": [4, 8]}, mode="grid")
    assert labels(ablation) == [
        "base",
        "order=descending+k=4",
        "order=ascending+k=4",
        "order=ascending+k=8",
    ]
    combined = [", ".join(map(str, one)) for one in itertools.product(["descending", "ascending"], [4, 8])]
    assert [row[:2] for row in rows(ablation)] == [("order, k", text) for text in combined]


@pytest.mark.parametrize("mode", ["one-at-a-time", "grid"])
def test_a_value_of_the_base_that_no_factor_lists_is_added(demo: Any, mode: str) -> None:
    ablation = demo({ORDER: ["ascending"], "buckets.k": [4]}, mode=mode)
    if mode == "grid":
        assert rows(ablation)[0] == ("order, k", "descending, 8", "base")
    else:
        assert rows(ablation)[::2] == [("order", "descending", "base"), ("k", "8", "base")]


def test_arms_for_which_the_same_is_made_are_one(demo: Any) -> None:
    """p_low is not read without trajectories, so that its values make nothing else there."""
    rho, p_low = "train.variants.trims.rho", "train.variants.trims.p_low"
    ablation = demo({rho: [0.5, 0.25, 0.25], p_low: [0.05, 0.1]}, mode="grid")
    assert len(ablation.arms) == 4
    assert len(ablation.settings) == 6
    twice = demo({"buckets.k": [4, 4, 8], "scores.batch_size": [8]}, mode="grid")
    assert labels(twice) == ["base", "k=4+batch_size=8"]


def test_arms_train_the_ablated_variant_alone(demo: Any) -> None:
    factors = {"train.variants.other.order": ["ascending"]}
    ablation = demo(factors, "train.variants.other.method=trims", method="other")
    assert [list(arm.config.train.variants) for arm in ablation.arms] == [["other"]] * 2
    assert {step.node.params.get("variant") for step in ablation.steps} <= {None, "other"}


def test_another_order_shares_all_data_and_another_k_the_alignment(demo: Any) -> None:
    ablation = demo({ORDER: ["ascending"], "buckets.k": [4], "buckets.metric": ["entropy"]})
    models = [f"{stage}/trims-s{seed}" for stage in ("train", "sweep", "grades") for seed in range(3)]
    assert own_steps(ablation, "order=ascending") == models
    assert own_steps(ablation, "k=4") == ["buckets", *models]
    assert own_steps(ablation, "metric=entropy") == ["aligned", "buckets", *models]
    by_id = {step.id: step for step in ablation.steps}
    assert dict(by_id["order=ascending/train/trims-s0"].parents) == {"buckets": "buckets"}
    assert dict(by_id["k=4/buckets"].parents) == {"aligned": "aligned"}
    assert len(by_id) == len(ablation.steps)
    seen: set[str] = set()
    for step in ablation.steps:
        assert set(step.parents.values()) <= seen, "parents come before children"
        seen.add(step.id)


def test_the_base_asks_for_what_the_config_itself_asks_for(demo: Any, tmp_path: Path) -> None:
    """So what `trims run` made of it is not made again."""
    ablation = demo({ORDER: ["ascending"]})
    config = load_config(tmp_path / "demo.yaml")
    store = Store(config.store)
    for node in build_graph(config)[:1]:
        spec = load_spec(node.stage)
        assert node_key(store, spec, config, node, {}) == node_key(store, spec, ablation.base, node, {})
    assert config.result_fields() == ablation.base.result_fields()


def test_all_wrong_factors_and_values_are_told_at_once_with_nearest_names(demo: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        demo({ORDER: ["ascnding", "random"], "buckets.kk": [4], "bukets.k": [4], "buckets.k": [0]})
    said = str(caught.value)
    assert "train.variants.trims.order: Input should be 'descending'" in said and "'ascnding'" in said
    assert "buckets.kk: unknown key; did you mean 'k'?" in said
    assert "bukets: unknown key; did you mean 'buckets'?" in said
    assert "buckets.k: Input should be greater than or equal to 1" in said


@pytest.mark.parametrize(
    ("factor", "values", "says"),
    [
        ("sweep.cache", ["dual"], "ablate.factors.sweep.cache: arms are decoded, graded and shown alike"),
        ("report.levels", [[2.0]], "ablate.factors.report.levels: arms are decoded"),
        ("corpus.system_prompt", ["x"], "arms are decoded"),
        ("train.variants.trms.order", ["random"], "every arm trains trims alone; expected a field of"),
        ("train.variants", [{}], "every arm trains trims alone"),
        ("scores.batch_size", [8, 16], "no value of batch_size changes what is made"),
        ("buckets.k", [8], "no value of k changes what is made"),
        ("buckets.k.x", [8], "k is not a section"),
    ],
)
def test_what_cannot_be_a_factor_is_refused(demo: Any, factor: str, values: list[Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        demo({factor: values})


def test_an_unknown_method_and_a_config_without_the_section_are_refused(
    demo: Any, project_root: Path
) -> None:
    with pytest.raises(ConfigError, match=r"ablate\.method: no variant 'trms'; did you mean 'trims'\?"):
        demo({"buckets.k": [4]}, method="trms")
    with pytest.raises(ConfigError, match="no section ablate"):
        ablation_of(project_root / "configs/demo.yaml")


def test_settings_of_one_end_are_told_apart_by_more_of_their_names(demo: Any) -> None:
    ablation = demo({"corpus.limit": [100], "train.lora.r": [8], "train.variants.trims.p_low": [0.1]})
    assert labels(ablation)[1:] == ["limit=100", "r=8", "p_low=0.1"]
    ends = demo({"train.pads_p_high": [0.9], "train.pads_rho": [0.2]}, "train.pads=last")
    assert labels(ends)[1:] == ["pads_p_high=0.9", "pads_rho=0.2"]
    both = demo({"scores.dtype": ["bfloat16"], "student.dtype": ["bfloat16"]})
    assert labels(both)[1:] == ["scores.dtype=bfloat16", "student.dtype=bfloat16"]


def test_a_run_takes_no_notice_of_the_section(demo: Any, tmp_path: Path, project_root: Path) -> None:
    with_it = load_config(project_root / DEMO, env={})
    without = with_it.model_copy(update={"ablate": None})
    assert with_it.result_fields() == without.result_fields()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return ablation_world.install(tmp_path, monkeypatch)


def test_shared_units_are_made_once_and_nothing_is_made_again(world: Path) -> None:
    ablation = ablation_of(world)
    make_all(ablation)
    points = 3 + 1  # one token per forward lies in two units
    assert made == {
        "corpus": 1,
        "buckets": 2,
        "train": 2 * 3,
        "sweep": points * (1 + 2 * 3),
        "grades": points * (1 + 2 * 3),
    }
    assert {row.state for row in plan_of(ablation)} == {"hit"}
    made.clear()
    assert [row.node.id for row in plan_of(ablation)] == [step.id for step in ablation.steps]
    make_all(ablation_of(world, ['ablate.factors={"buckets.k": [2, 8]}']))
    assert made["corpus"] + made["sweep"] == points * 2, "k=8 alone is new"


def test_what_is_missing_is_named_with_the_command_that_makes_it(world: Path) -> None:
    ablation = ablation_of(world, ["train.seeds=[0]"])
    with pytest.raises(
        MissingArtifactError, match=rf"trims run {world} --set 'train\.seeds=\[0\]' --until corpus"
    ):
        write_ablation(ablation, lambda _note: None)


def test_arms_whose_parents_turn_out_equal_are_shown_as_one(world: Path) -> None:
    """The fake corpus has nine rows whatever its limit: all that is made from it is the same."""
    ablation = ablation_of(world, ['ablate.factors={"corpus.limit": [9], "buckets.k": [2]}'])
    assert labels(ablation) == ["base", "limit=9", "k=2"]
    make_all(ablation)
    _, results = write_ablation(ablation, lambda _note: None)
    rows = {row["label"]: row for row in results["ablations"]["rows"]}
    assert (rows["limit=9"]["method"], rows["limit=9"]["is_base"]) == ("base:trims", True)
    assert [(pair["a"], pair["b"]) for pair in results["tasks"]["demo"]["comparisons"]] == [
        ("k=2:trims", "base:trims")
    ]
