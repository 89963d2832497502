"""The aligned stage from artifacts to artifact, with a made-up teacher and a real student tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import bucket_world
from fakes.bucket_world import SPECS, make, read_source, student_difficulty, write_source, write_world

from trims_core.difficulty.aligned import align_shard
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
from trims_core.schema import ALIGNED, provenance, read_table
from trims_core.settings import load_config
from trims_core.stage import open_parents
from trims_core.store import Artifact, Store


def make_aligned(config_file: Path, *overrides: str) -> Artifact:
    """All stages up to aligned of a made-up world."""
    return make(config_file, "aligned", *overrides).artifact


def rows_of(artifact: Artifact) -> list[dict[str, Any]]:
    return [row for path in artifact.files("aligned-") for row in read_table(path, ALIGNED).to_pylist()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def artifact(world: Path) -> Artifact:
    return make_aligned(world)


def test_every_scored_example_has_the_students_tokens(world: Path, artifact: Artifact) -> None:
    renderer = Renderer(load_tokenizer(str(world.parent / "student")))
    source, rows = read_source(world.parent), rows_of(artifact)
    assert [row["id"] for row in rows] == [row["id"] for row in source]
    for row, example in zip(rows, source, strict=True):
        prompt = renderer.prompt_ids(example["messages"])
        completion = renderer.completion(example["completion"])
        assert row["input_ids"] == [*prompt, *completion.ids, *renderer.end_ids]
        assert row["prompt_length"] == len(prompt)
        score = example["score"]
        ends = [*completion.byte_end, completion.byte_end[-1]]
        expected = student_difficulty(score["byte_end"], score["nll_nats"], ends).astype(np.float32)
        assert row["difficulty_nats"] == expected.tolist()
        assert row["difficulty_nats"][-1] == score["nll_nats"][-1]


def test_counts_are_those_of_the_rows(artifact: Artifact) -> None:
    counts, rows = artifact.manifest.counts, rows_of(artifact)
    assert counts["n_in"] == counts["n_out"] == len(rows) == 40
    assert counts["n_tokens"] == sum(len(row["difficulty_nats"]) for row in rows)
    assert artifact.info["n_shards"] == len(artifact.units) == 4


def test_a_table_says_what_it_was_made_from(artifact: Artifact) -> None:
    about = provenance(artifact.file("aligned-00000/aligned.parquet"))
    assert about["provenance"].keys() == {
        "metric",
        "supervised_end",
        "family",
        "student_tokenizer",
        "scores",
        "corpus",
    }
    assert about["units"]["difficulty_nats"].startswith("nats per student completion token")


def test_scores_of_another_number_of_shards_are_refused(world: Path) -> None:
    from trims_core.difficulty.aligned_stage import units
    from trims_core.stage import Work

    config = load_config(world)
    parents = open_parents(Store(config.store), config, node_named(build_graph(config), "aligned"), SPECS)
    fewer = parents["scores"].manifest
    cut = Artifact(parents["scores"].path, replace(fewer, units=fewer.units[1:]))
    with pytest.raises(CorruptShardError, match=r"has 3 shards, .* has 4; expected one scores shard per"):
        units(Work("aligned", None, {}, {**parents, "scores": cut}, lambda *_: None), None)


def test_another_tokenizer_aligns_again_and_other_weights_do_not(tmp_path: Path) -> None:
    config_file = write_world(tmp_path / "w", n_rows=10)
    first = make(config_file, "aligned")
    (tmp_path / "w/student/model.safetensors").write_bytes(b"other weights")
    assert make(config_file, "aligned").how == "cached"
    about = tmp_path / "w/student/tokenizer_config.json"
    about.write_text(about.read_text() + "\n")
    again = make(config_file, "aligned")
    assert again.how == "made"
    assert again.artifact.content_digest == first.artifact.content_digest


def test_rejected_rows_are_left_out(world: Path, tmp_path: Path) -> None:
    config_file = write_world(tmp_path / "rejects")
    rows = read_source(config_file.parent)
    for row in (*rows[:10], rows[25]):  # a whole shard, and one row of another
        del row["score"]
    write_source(config_file.parent, rows)
    found = make_aligned(config_file)
    assert [row["id"] for row in rows_of(found)] == [row["id"] for row in rows if "score" in row]
    assert found.manifest.counts["n_in"] == found.manifest.counts["n_out"] == 29


def test_a_missing_metric_is_named_with_the_remedy(tmp_path: Path) -> None:
    config_file = write_world(tmp_path / "w", metric="entropy")
    with pytest.raises(ConfigError, match=r"has no entropy_nats for ids ex-000, .*metric to nll"):
        make_aligned(config_file)


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
        (_strange, CorruptShardError, "ids unheard-of are not in .*corpus.parquet"),
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
        make_aligned(config_file)


def test_scores_without_rows_are_an_error(tmp_path: Path) -> None:
    config_file = write_world(tmp_path / "w", n_rows=2)
    write_source(config_file.parent, bucket_world.examples(2))
    with pytest.raises(InputError, match="no scored example"):
        make_aligned(config_file)


def test_rows_are_joined_by_id_and_not_by_position(world: Path, artifact: Artifact, tmp_path: Path) -> None:
    parents = open_parents(
        Store(load_config(world).store),
        load_config(world),
        node_named(build_graph(load_config(world)), "aligned"),
        SPECS,
    )
    corpus = parents["corpus"].files("corpus-")[0]
    scores = parents["scores"].files("scores-", "/scores.parquet")[0]
    reversed_file = tmp_path / "reversed.parquet"
    table = pq.read_table(corpus)
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), reversed_file)
    renderer = Renderer(load_tokenizer(str(world.parent / "student")))
    ticks: list[int] = []
    found = align_shard(scores, reversed_file, "nll", renderer, ticks.append)
    assert found.table.equals(align_shard(scores, corpus, "nll", renderer, ticks.append).table)
    assert ticks == [10, 10]
