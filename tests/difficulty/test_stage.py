"""The buckets stage from artifacts to artifact, with a made-up teacher and a real student tokenizer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import bucket_world
from fakes.bucket_world import SPECS, read_source, write_source, write_world

from trims_core.difficulty.align import student_difficulty
from trims_core.difficulty.aligned import align_shard
from trims_core.difficulty.buckets import hash64, hash_ids
from trims_core.errors import (
    AlignmentError,
    ConfigError,
    CorruptShardError,
    InputError,
    NonFiniteScoreError,
    TrimsError,
)
from trims_core.graph import build_graph, node_named
from trims_core.rendering import Renderer, load_tokenizer
from trims_core.schema import BUCKETS, read_table
from trims_core.settings import load_config
from trims_core.stage import Result, open_parents, run_node
from trims_core.store import Artifact, Store


def make_buckets(config_file: Path, *overrides: str, refresh: bool = False) -> Result:
    """Corpus, scores and buckets of a made-up world."""
    config = load_config(config_file, overrides)
    store = Store(config.store)
    for name in ("corpus", "scores", "buckets"):
        node = node_named(build_graph(config), name)
        parents = open_parents(store, config, node, SPECS)
        result = run_node(store, config, node, parents, refresh=refresh and name == "buckets", specs=SPECS)
    return result


def rows_of(artifact: Artifact) -> list[dict[str, Any]]:
    return [row for path in artifact.files("buckets-") for row in read_table(path, BUCKETS).to_pylist()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def artifact(world: Path) -> Artifact:
    return make_buckets(world).artifact


def test_every_scored_example_has_the_students_tokens(world: Path, artifact: Artifact) -> None:
    renderer = Renderer(load_tokenizer(str(world.parent / "student")))
    source, rows = read_source(world.parent), rows_of(artifact)
    assert [row["id"] for row in rows] == [row["id"] for row in source]
    for row, example in zip(rows, source, strict=True):
        prompt = renderer.prompt_ids(example["messages"])
        completion = renderer.completion(example["completion"])
        assert row["input_ids"] == [*prompt, *completion.ids, renderer.end_of_turn_id]
        assert row["prompt_length"] == len(prompt)
        score = example["score"]
        ends = [*completion.byte_end, completion.byte_end[-1]]
        expected = student_difficulty(score["byte_end"], score["nll_nats"], ends).astype(np.float32)
        assert row["difficulty_nats"] == expected.tolist()
        assert row["difficulty_nats"][-1] == score["nll_nats"][-1]


def test_completions_end_in_the_token_that_is_asked_for_with_the_same_score(
    world: Path, artifact: Artifact
) -> None:
    other = make_buckets(world, "buckets.supervised_end=eos").artifact
    assert other.fingerprint != artifact.fingerprint
    assert "supervised_end" not in artifact.manifest.config
    tokenizer = load_tokenizer(str(world.parent / "student"))
    for eot_row, eos_row in zip(rows_of(artifact), rows_of(other), strict=True):
        assert tokenizer.convert_ids_to_tokens(eot_row["input_ids"][-1]) == "<|eot_id|>"
        assert tokenizer.convert_ids_to_tokens(eos_row["input_ids"][-1]) == "<|endoftext|>"
        assert eos_row["input_ids"][:-1] == eot_row["input_ids"][:-1]
        assert eos_row["difficulty_nats"] == eot_row["difficulty_nats"]
        assert eos_row["bucket"] == eot_row["bucket"]


def test_buckets_are_those_of_a_full_sort_over_all_shards(artifact: Artifact) -> None:
    rows, k = rows_of(artifact), 5
    order = []
    for row in rows:
        n = len(row["difficulty_nats"])
        hashes = hash64(np.repeat(hash_ids([row["id"]]), n), np.arange(n))
        order += [
            (x, int(h), row["id"], i)
            for i, (x, h) in enumerate(zip(row["difficulty_nats"], hashes, strict=True))
        ]
    order.sort()
    bucket_of = {(name, i): k - rank * k // len(order) for rank, (_, _, name, i) in enumerate(order)}
    assert all(b == bucket_of[row["id"], i] for row in rows for i, b in enumerate(row["bucket"]))


def test_edges_and_histogram_describe_the_rows(artifact: Artifact) -> None:
    edges = json.loads(artifact.file("edges.json").read_text())
    histogram = json.loads(artifact.file("histogram.json").read_text())
    values = np.array([x for row in rows_of(artifact) for x in row["difficulty_nats"]])
    buckets = np.array([b for row in rows_of(artifact) for b in row["bucket"]])
    sizes = np.bincount(buckets, minlength=6)[1:].tolist()
    assert (edges["k"], edges["metric"], edges["n_tokens"]) == (5, "nll", len(values))
    assert edges["bucket_sizes"] == sizes
    assert max(sizes) - min(sizes) <= 1
    assert edges["edges_nats"] == [values[buckets == b].max() for b in (5, 4, 3, 2)]
    assert (edges["min_nats"], edges["max_nats"]) == (values.min(), values.max())
    assert edges["n_zero"] == (values == 0).sum() > 0
    assert edges["mean_nats"] == pytest.approx(values.mean(), rel=1e-12)
    inside = [
        sum(counts) + below for counts, below in zip(histogram["counts"], histogram["n_below"], strict=True)
    ]
    assert inside == sizes
    assert artifact.manifest.counts["n_tokens"] == len(values)


def test_the_same_rows_in_other_shards_give_the_same_buckets(artifact: Artifact, tmp_path: Path) -> None:
    other = make_buckets(write_world(tmp_path / "other", rows_per_shard=3)).artifact
    assert len(other.files("buckets-")) == 14
    assert rows_of(other) == rows_of(artifact)
    for name in ("edges.json", "histogram.json"):
        assert other.file(name).read_bytes() == artifact.file(name).read_bytes()


def test_rejected_rows_are_left_out(world: Path, tmp_path: Path) -> None:
    config_file = write_world(tmp_path / "rejects")
    rows = read_source(config_file.parent)
    for row in (*rows[:10], rows[25]):  # a whole shard, and one row of another
        del row["score"]
    write_source(config_file.parent, rows)
    found = make_buckets(config_file).artifact
    assert [row["id"] for row in rows_of(found)] == [row["id"] for row in rows if "score" in row]
    assert found.manifest.counts["n_in"] == 29


def test_another_k_keeps_scores_and_does_not_align_again(
    world: Path, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("aligned again")

    with monkeypatch.context() as patch:
        patch.setattr("trims_core.difficulty.aligned.align_shard", refuse)
        other = make_buckets(world, "buckets.k=3")
    assert other.how == "made"
    plain = {key: parent["fingerprint"] for key, parent in artifact.manifest.parents.items()}
    assert {key: parent["fingerprint"] for key, parent in other.artifact.manifest.parents.items()} == plain
    aligned_anew = make_buckets(world, "buckets.k=3", refresh=True)
    assert aligned_anew.how == "made"
    assert aligned_anew.artifact.content_digest == other.artifact.content_digest


def test_a_missing_metric_is_named_with_the_remedy(tmp_path: Path) -> None:
    config_file = write_world(tmp_path / "w", metric="entropy")
    with pytest.raises(ConfigError, match=r"has no entropy_nats for ids ex-000, .*metric to nll"):
        make_buckets(config_file)


def _nan(row: dict[str, Any]) -> None:
    row["score"]["nll_nats"][1] = float("nan")


def _short(row: dict[str, Any]) -> None:
    row["score"]["byte_end"] = [end - 1 for end in row["score"]["byte_end"]]


def _no_end_of_turn(row: dict[str, Any]) -> None:
    for column in ("byte_end", "nll_nats", "token_ids"):
        row["score"][column].pop()


def _uneven(row: dict[str, Any]) -> None:
    row["score"]["nll_nats"].pop()


def _strange(row: dict[str, Any]) -> None:
    row["score"]["id"] = "unheard-of"


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_nan, NonFiniteScoreError, "1 of .* scores are not finite .*ex-011"),
        (_short, AlignmentError, "example ex-011: the teacher's offsets end"),
        (_no_end_of_turn, AlignmentError, "example ex-011: the teacher's offsets end"),
        (_uneven, CorruptShardError, "ex-011: byte_end and nll_nats have unequal lengths"),
        (_strange, CorruptShardError, "ids unheard-of are not in corpus-00001.parquet"),
    ],
)
def test_damaged_scores_are_refused_with_the_example_named(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], error: type[TrimsError], message: str
) -> None:
    config_file = write_world(tmp_path / "w", n_rows=20)
    rows = read_source(config_file.parent)
    damage(rows[11])
    write_source(config_file.parent, rows)
    with pytest.raises(error, match=message):
        make_buckets(config_file)


def test_scores_without_rows_are_an_error(tmp_path: Path) -> None:
    config_file = write_world(tmp_path / "w", n_rows=2)
    write_source(config_file.parent, bucket_world.examples(2))
    with pytest.raises(InputError, match="no scored example"):
        make_buckets(config_file)


def test_rows_are_joined_by_id_and_not_by_position(world: Path, artifact: Artifact, tmp_path: Path) -> None:
    parents = open_parents(
        Store(load_config(world).store),
        load_config(world),
        node_named(build_graph(load_config(world)), "buckets"),
        SPECS,
    )
    corpus = parents["corpus"].files("corpus-")[0]
    scores = parents["scores"].files("scores-")[0]
    reversed_file = tmp_path / "reversed.parquet"
    table = pq.read_table(corpus)
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), reversed_file)
    renderer = Renderer(load_tokenizer(str(world.parent / "student")))
    ticks: list[int] = []
    found = align_shard(scores, reversed_file, "nll", renderer, ticks.append)
    assert found.equals(align_shard(scores, corpus, "nll", renderer, ticks.append))
    assert ticks == [10, 10]


def test_computing_the_key_loads_nothing_heavy() -> None:
    code = (
        "import sys, trims_core.difficulty.stage;"
        "print([m for m in ('torch', 'transformers', 'vllm', 'matplotlib', 'polars') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
