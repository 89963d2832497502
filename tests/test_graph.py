"""Which nodes a config asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.stages import tiny_config

from trims_core.errors import ConfigError
from trims_core.graph import Node, ancestors, build_graph, node_named, refreshed, select


@pytest.fixture
def graph(tmp_path: Path) -> tuple[Node, ...]:
    return build_graph(tiny_config(tmp_path, train={"variants": {"trims": {}, "plain": {}}, "seeds": [0, 1]}))


def test_one_adapter_and_one_sweep_per_variant_and_seed(graph: tuple[Node, ...]) -> None:
    models = ["trims-s0", "trims-s1", "plain-s0", "plain-s1"]
    assert [node.id for node in graph] == [
        "corpus",
        "scores",
        "aligned",
        "buckets",
        *(f"train/{model}" for model in models),
        "sweep/untuned",
        *(f"sweep/{model}" for model in models),
        "grades/untuned",
        *(f"grades/{model}" for model in models),
        "report",
    ]


def test_parents_come_before_children(graph: tuple[Node, ...]) -> None:
    seen: set[str] = set()
    for node in graph:
        assert set(node.parents.values()) <= seen
        seen.add(node.id)


def test_the_report_waits_for_everything(graph: tuple[Node, ...]) -> None:
    assert ancestors(graph, "report") == {node.id for node in graph} - {"report"}


def test_nodes_know_their_variant_and_seed(graph: tuple[Node, ...]) -> None:
    assert node_named(graph, "train/plain-s1").params == {"variant": "plain", "seed": 1}
    assert node_named(graph, "sweep/plain-s1").params == {"variant": "plain", "seed": 1, "model": "plain-s1"}
    assert node_named(graph, "sweep/untuned").params == {"variant": None, "seed": None, "model": "untuned"}
    assert node_named(graph, "sweep/plain-s1").parents == {"train": "train/plain-s1"}
    assert node_named(graph, "grades/plain-s1").parents == {"sweep": "sweep/plain-s1"}
    assert node_named(graph, "grades/untuned").params["model"] == "untuned"


def test_buckets_are_made_of_aligned_tokens_alone(graph: tuple[Node, ...]) -> None:
    assert node_named(graph, "aligned").parents == {"corpus": "corpus", "scores": "scores"}
    assert node_named(graph, "buckets").parents == {"aligned": "aligned"}


def test_without_the_untuned_student_there_is_no_such_sweep(tmp_path: Path) -> None:
    graph = build_graph(tiny_config(tmp_path, sweep={"untuned": False}))
    assert not {"sweep/untuned", "grades/untuned"} & {node.id for node in graph}


def test_a_seed_given_twice_is_made_once(tmp_path: Path) -> None:
    graph = build_graph(tiny_config(tmp_path, train={"seeds": [3, 3]}))
    assert [node.id for node in graph if node.stage == "train"] == ["train/trims-s3"]


def test_until_a_stage_keeps_all_of_its_nodes(graph: tuple[Node, ...]) -> None:
    assert [node.id for node in select(graph, "buckets")] == ["corpus", "scores", "aligned", "buckets"]
    stages = {node.stage for node in select(graph, "train")}
    assert stages == {"corpus", "scores", "aligned", "buckets", "train"}
    assert select(graph, None) == graph


def test_until_a_node_keeps_what_it_is_made_from(graph: tuple[Node, ...]) -> None:
    wanted = ["corpus", "scores", "aligned", "buckets", "train/plain-s0", "sweep/plain-s0"]
    assert [node.id for node in select(graph, "sweep/plain-s0")] == wanted


def test_refresh_takes_stages_and_nodes(graph: tuple[Node, ...]) -> None:
    assert refreshed(graph, ["scores", "train/trims-s1"]) == {"scores", "train/trims-s1"}
    assert len(refreshed(graph, ["train"])) == 4


def test_refreshing_what_is_not_run_is_refused(graph: tuple[Node, ...]) -> None:
    with pytest.raises(ConfigError, match="not part of the run"):
        refreshed(select(graph, "buckets"), ["train"])


@pytest.mark.parametrize(("word", "meant"), [("score", "scores"), ("train/trim-s0", "train/trims-s0")])
def test_a_misspelt_word_names_the_nearest(graph: tuple[Node, ...], word: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        select(graph, word)
