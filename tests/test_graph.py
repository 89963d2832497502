"""Which nodes a config asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.stages import raw_config, tiny_config

from trims_core.config import TrimsConfig
from trims_core.errors import ConfigError
from trims_core.graph import Node, ancestors, build_graph, node_named, refreshed, select
from trims_core.settings import parse_config

ROLLOUTS = {"grader": "demo"}
STANDARD = {"method": "standard"}
OWN = {"method": "tabom"}
"""Trained on the student's own answers."""


def config_without_teacher(root: Path, **sections: Mapping[str, Any]) -> TrimsConfig:
    """The small pipeline's settings without a section scores, one standard variant."""
    raw = {**raw_config(root), "train": {"variants": {"plain": STANDARD}}, **sections}
    del raw["scores"]
    return parse_config(raw)


def ids_of(nodes: Sequence[Node]) -> list[str]:
    return [node.id for node in nodes]


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
        "analysis",
        "report",
    ]


def test_one_analysis_reads_every_model_with_its_answers_and_their_verdicts(
    graph: tuple[Node, ...], tmp_path: Path
) -> None:
    models = ["trims-s0", "trims-s1", "plain-s0", "plain-s1"]
    swept = ["untuned", *models]
    read = {f"{stage}/{model}" for stage in ("sweep", "grades") for model in swept}
    parents = node_named(graph, "analysis").parents
    assert parents == {name: name for name in read | {f"train/{model}" for model in models}}
    assert node_named(graph, "report").parents["analysis"] == "analysis"
    without = build_graph(tiny_config(tmp_path).model_copy(update={"analysis": None}))
    assert "analysis" not in ids_of(without)
    with pytest.raises(ConfigError, match="its section analysis is null"):
        select(without, "analysis")


def test_the_analysis_reads_the_last_round_of_reinforcement(tmp_path: Path) -> None:
    rollouts = {"samples": 2, "sampling": {"temperature": 0.5}, "grader": "demo"}
    own = {"method": "cj_grpo", "rollouts": {**rollouts, "gen_length": 64, "block_length": 64}}
    own["rollouts"] |= {"rule": "eoser", "threshold": 8}
    graph = build_graph(tiny_config(tmp_path, train={"variants": {"own": own}}))
    trained = [name for name in node_named(graph, "analysis").parents if name.startswith("train/")]
    assert trained == ["train/own-s0"]


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


def test_without_a_teacher_variants_are_trained_on_the_corpus_tokens(tmp_path: Path) -> None:
    graph = build_graph(config_without_teacher(tmp_path))
    assert ids_of(graph)[:3] == ["corpus", "tokens", "train/plain-s0"]
    assert node_named(graph, "tokens").parents == {"corpus": "corpus"}
    assert node_named(graph, "train/plain-s0").parents == {"tokens": "tokens"}
    assert ancestors(graph, "report") == {node.id for node in graph} - {"report"}


def test_with_a_teacher_all_that_learn_from_the_corpus_see_the_same_examples(tmp_path: Path) -> None:
    graph = build_graph(tiny_config(tmp_path, train={"variants": {"trims": {}, "plain": STANDARD}}))
    for model in ("trims-s0", "plain-s0"):
        assert node_named(graph, f"train/{model}").parents == {"buckets": "buckets"}
    assert "tokens" not in ids_of(graph)


def test_a_variant_that_needs_rollouts_brings_them_and_their_grades(tmp_path: Path) -> None:
    variants = {"trims": {}, "own": OWN}
    graph = build_graph(tiny_config(tmp_path, train={"variants": variants}, rollouts=ROLLOUTS))
    data = ["corpus", "scores", "aligned", "buckets", "tokens", "rollouts/untuned", "grades/rollouts"]
    assert ids_of(graph)[: len(data)] == data
    assert node_named(graph, "rollouts/untuned").parents == {"tokens": "tokens"}
    assert node_named(graph, "grades/rollouts").parents == {
        "corpus": "corpus",
        "rollouts": "rollouts/untuned",
    }
    own = {"tokens": "tokens", "rollouts": "rollouts/untuned", "grades": "grades/rollouts"}
    assert node_named(graph, "train/own-s0").parents == own
    assert node_named(graph, "train/trims-s0").parents == {"buckets": "buckets"}


def test_prompts_with_the_right_answer_are_there_for_those_that_read_them(tmp_path: Path) -> None:
    variants = {"own": OWN, "a": {"method": "tad"}, "b": {"method": "tad", "compat": True}}
    variants["c"] = {"method": "tad", "kl_weight": 0.0}
    graph = build_graph(tiny_config(tmp_path, train={"variants": variants}, rollouts=ROLLOUTS))
    told = [node for node in graph if node.id.startswith("tokens/")]
    assert [(node.id, node.stage, node.parents) for node in told] == [
        (f"tokens/{name}", "tokens", {"corpus": "corpus"})
        for name in ("reference", "empty-reference", "solution")
    ]
    own = {"tokens": "tokens", "rollouts": "rollouts/untuned", "grades": "grades/rollouts"}
    parents = {name: node_named(graph, f"train/{name}-s0").parents for name in variants}
    assert parents["own"] == parents["c"] == own
    assert parents["a"] == {**own, "references": "tokens/reference"}
    assert parents["b"] == {**own, "references": "tokens/empty-reference", "prompts": "tokens/solution"}
    chosen = [node.id for node in select(graph, "tokens/reference")]
    assert chosen == ["corpus", "tokens/reference"]


def test_what_no_variant_needs_is_not_there(tmp_path: Path) -> None:
    graph = build_graph(tiny_config(tmp_path, train={"variants": {"own": OWN}}, rollouts=ROLLOUTS))
    assert {node.stage for node in graph}.isdisjoint({"scores", "aligned", "buckets"})
    only = tiny_config(tmp_path, train={"variants": {"trims": {}}}, rollouts=ROLLOUTS)
    assert {node.stage for node in build_graph(only)}.isdisjoint({"tokens", "rollouts"})


def test_until_follows_the_edges_and_not_the_order_of_a_list(tmp_path: Path) -> None:
    variants = {"trims": {}, "own": OWN}
    graph = build_graph(tiny_config(tmp_path, train={"variants": variants}, rollouts=ROLLOUTS))
    assert ids_of(select(graph, "tokens")) == ["corpus", "tokens"]
    assert ids_of(select(graph, "rollouts")) == ["corpus", "tokens", "rollouts/untuned"]
    assert ids_of(select(graph, "train/trims-s0")) == [
        *("corpus", "scores", "aligned", "buckets"),
        "train/trims-s0",
    ]
    rollouts = ["corpus", "tokens", "rollouts/untuned", "grades/rollouts"]
    assert ids_of(select(graph, "grades/rollouts")) == rollouts
    assert ids_of(select(graph, "train/own-s0")) == [*rollouts, "train/own-s0"]
    assert {"grades/rollouts", "grades/own-s0", "train/trims-s0"} <= set(ids_of(select(graph, "grades")))
    assert refreshed(graph, ["rollouts"]) == {"rollouts/untuned"}
    assert "grades/rollouts" in refreshed(graph, ["grades"])


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("scores", "a section scores"),
        ("buckets", "a section scores"),
        ("rollouts", "the student's own answers"),
    ],
)
def test_until_a_stage_that_the_run_does_not_have_says_why(tmp_path: Path, word: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"{word}: this run has no such stage; .*{why}"):
        select(build_graph(config_without_teacher(tmp_path)), word)


def test_a_variant_without_the_section_it_needs_is_named(tmp_path: Path) -> None:
    variants = {
        "hard": {},
        "plain": STANDARD,
        "own": OWN,
        "even": {"method": "standard", "loss_weight": "balanced"},
    }
    with pytest.raises(ConfigError) as error:
        config_without_teacher(tmp_path, train={"variants": variants})
    said = str(error.value)
    assert "train.variants.hard (method trims) reads a teacher's buckets" in said
    assert "train.variants.even (method standard) reads a teacher's buckets" in said
    assert "add one with scores.model" in said and "plain" not in said
    assert "train.variants.own (method tabom) is trained on the student's own answers" in said
    assert "no section rollouts; add one with rollouts.grader" in said


@pytest.mark.parametrize(("word", "meant"), [("score", "scores"), ("train/trim-s0", "train/trims-s0")])
def test_a_misspelt_word_names_the_nearest(graph: tuple[Node, ...], word: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        select(graph, word)
