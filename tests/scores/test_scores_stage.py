"""The scores stage with a scriptable teacher: every id once, joined by id, rejects against a limit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.teacher import LOG_VARIABLE, asked_rows, n_starts, raw_config, write_tokenizer

from trims_core.config import TrimsConfig
from trims_core.errors import ConfigError, NonFiniteScoreError, RejectBudgetError, TeacherError, TrimsError
from trims_core.fingerprint import Digests
from trims_core.graph import build_graph
from trims_core.rendering import Renderer, load_tokenizer
from trims_core.schema import CORPUS, SCORES, provenance, read_table
from trims_core.scores import rendered
from trims_core.scores.shards import render_rows
from trims_core.settings import parse_config
from trims_core.stage import Result, run_node
from trims_core.store import Store
from trims_core.teacher.identity import teacher_identity

N_ROWS, SHARD_ROWS = 10, 4
ALL = [f"r{i}" for i in range(N_ROWS)]


class World:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "asked.txt"
        self.raw = raw_config(root, N_ROWS, SHARD_ROWS)

    def config(self, **scores: Any) -> TrimsConfig:
        return parse_config({**self.raw, "scores": {**self.raw["scores"], **scores}})

    def run(self, options: dict[str, Any] | None = None, **scores: Any) -> Result:
        config = self.config(options=options or {}, **scores)
        store = Store(config.store)
        corpus_node, scores_node = build_graph(config)[:2]
        corpus = run_node(store, config, corpus_node, {}).artifact
        self.corpus = corpus
        return run_node(store, config, scores_node, {"corpus": corpus})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    monkeypatch.setenv(LOG_VARIABLE, str(world.log))
    return world


def table(result: Result, name: str) -> list[dict[str, Any]]:
    files = result.artifact.files(suffix=f"/{name}.parquet")
    return pa.concat_tables([pq.read_table(path) for path in files]).to_pylist()


def shards(world: World) -> list[list[str]]:
    """Ids by shard of the corpus, after a run."""
    return [read_table(path, CORPUS)["id"].to_pylist() for path in world.corpus.files("corpus-")]


def test_every_completion_token_and_the_end_of_turn_is_scored(world: World) -> None:
    result = world.run()
    renderer = Renderer(load_tokenizer(str(world.root / "teacher")))
    completions = {
        row["id"]: row["completion"]
        for path in world.corpus.files("corpus-")
        for row in read_table(path, CORPUS).to_pylist()
    }
    rows = table(result, "scores")
    assert [row["id"] for row in rows] == ALL
    for row in rows:
        text = completions[row["id"]]
        assert row["token_ids"] == [*renderer.completion(text).ids, *renderer.end_ids]
        assert row["byte_end"] == [*range(1, len(text.encode()) + 1), len(text.encode())]
        assert len(row["nll_nats"]) == len(row["token_ids"])
        assert row["entropy_nats"] is None
    assert table(result, "rejects") == []
    assert list(result.artifact.manifest.entries) == [
        f"scores-{i:05d}/{name}.parquet" for i in range(len(shards(world))) for name in ("rejects", "scores")
    ]
    assert len(shards(world)) >= 3


def test_the_artifact_says_who_scored_and_how_much(world: World) -> None:
    result = world.run()
    manifest, info = result.artifact.manifest, result.artifact.info
    assert dict(manifest.counts) == {"n_in": N_ROWS, "n_out": N_ROWS, "n_rejected": 0}
    assert info["engine"] == "fake 1"
    assert info["n_tokens"] == sum(len(row["token_ids"]) for row in table(result, "scores"))
    assert info["identity"]["checkpoint"] == Digests(None).checkpoint(world.root / "teacher")
    about = provenance(result.artifact.file("scores-00000/scores.parquet"))
    assert about["units"]["nll_nats"] == "nats"
    assert about["provenance"]["checkpoint"] == info["identity"]["checkpoint"]
    read_table(result.artifact.file("scores-00000/scores.parquet"), SCORES)


def test_replies_are_joined_by_id_whatever_their_order(world: World) -> None:
    straight = table(world.run(), "scores")
    assert table(world.run({"backwards": True}), "scores") == straight


def test_the_engine_gets_room_for_the_longest_row_of_the_whole_corpus(world: World) -> None:
    world.run()
    rows = [line for line in world.log.read_text().splitlines() if line.startswith("start")]
    renderer = Renderer(load_tokenizer(str(world.root / "teacher")))
    corpus = [row for path in world.corpus.files("corpus-") for row in read_table(path, CORPUS).to_pylist()]
    lengths = [
        len(renderer.prompt_ids(row["messages"])) + len(renderer.completion(row["completion"]).ids) + 1
        for row in corpus
    ]
    assert rows == [f"start {max(lengths)}"]


@pytest.mark.parametrize("value", ["nan", "-inf", "inf", "9999", "-0.3"])
def test_scores_that_are_no_nats_are_an_error_naming_ids_by_default(value: str, world: World) -> None:
    with pytest.raises(
        NonFiniteScoreError, match=r"1 of 10 rows .*\(ids r1\).*max_rejected_fraction"
    ) as caught:
        world.run({"values": {"r1": value}})
    assert not isinstance(caught.value, RejectBudgetError)


def test_scoring_stops_at_the_first_shard_with_too_many_rejects(world: World) -> None:
    with pytest.raises(NonFiniteScoreError):
        world.run({"values": {"r1": "nan"}})
    last = next(number for number, ids in enumerate(shards(world)) if "r1" in ids)
    assert asked_rows(world.log) == [row for ids in shards(world)[: last + 1] for row in ids]
    assert last < len(shards(world)) - 1


def test_rejects_within_the_limit_leave_the_other_rows_as_they_are(world: World) -> None:
    clean = {row["id"]: row for row in table(world.run(), "scores")}
    result = world.run({"values": {"r1": "nan", "r9": "-0.5"}, "short": ["r4"]}, max_rejected_fraction=0.3)
    rejects = {row["id"]: row["reason"] for row in table(result, "rejects")}
    assert rejects == {"r1": "non_finite", "r9": "positive_log_probability", "r4": "wrong_length"}
    kept = {row["id"]: row for row in table(result, "scores")}
    assert kept == {name: row for name, row in clean.items() if name not in rejects}
    counts = dict(result.artifact.manifest.counts)
    assert counts["n_in"] == counts["n_out"] + counts["n_rejected"] == N_ROWS
    assert counts["n_non_finite"] == counts["n_wrong_length"] == 1


def test_raising_the_limit_throws_no_work_away_and_lowering_it_is_an_error(world: World) -> None:
    options = {"values": {"r1": "nan"}}
    with pytest.raises(NonFiniteScoreError):
        world.run(options)
    assert world.run(options, max_rejected_fraction=0.1).how == "made"
    assert len(asked_rows(world.log)) == N_ROWS
    with pytest.raises(NonFiniteScoreError, match="r1"):  # of the same class as when it was found
        world.run(options)


def test_rows_longer_than_the_limit_are_rejected_without_asking(world: World) -> None:
    with pytest.raises(RejectBudgetError, match="too_long"):
        world.run(max_model_len=47)
    result = world.run(max_model_len=47, max_rejected_fraction=1.0)
    rejects = table(result, "rejects")
    assert {row["reason"] for row in rejects} == {"too_long"}
    assert not {row["id"] for row in rejects} & set(asked_rows(world.log))
    assert sorted([row["id"] for row in rejects] + [row["id"] for row in table(result, "scores")]) == ALL


def test_the_models_own_context_is_the_limit_and_cannot_be_exceeded(world: World) -> None:
    about = json.loads((world.root / "teacher/config.json").read_text())
    (world.root / "teacher/config.json").write_text(json.dumps({**about, "max_position_embeddings": 47}))
    with pytest.raises(RejectBudgetError, match="the teacher reads 47"):
        world.run()
    with pytest.raises(ConfigError, match="context of 47 tokens; set at most 47"):
        world.run(max_model_len=48)


def test_tokens_beyond_the_models_vocabulary_are_rejected(world: World) -> None:
    about = json.loads((world.root / "teacher/config.json").read_text())
    (world.root / "teacher/config.json").write_text(json.dumps({**about, "vocab_size": 257}))
    with pytest.raises(RejectBudgetError, match="out_of_vocabulary"):
        world.run()
    assert asked_rows(world.log) == []


def test_a_row_without_reply_is_asked_again_by_the_next_run(world: World) -> None:
    with pytest.raises(RejectBudgetError, match=r"no_reply \(ids r5\)"):
        world.run({"silent": ["r5"]})
    with pytest.raises(RejectBudgetError):
        world.run({"silent": ["r5"]})
    (asked_twice,) = (ids for ids in shards(world) if "r5" in ids)
    assert "r1" not in asked_twice
    for row in ALL[:6]:
        assert asked_rows(world.log).count(row) == (2 if row in asked_twice else 1)


def test_a_row_the_engine_failed_on_is_asked_again_by_the_next_run(world: World) -> None:
    with pytest.raises(RejectBudgetError, match=r"engine_error \(ids r5\)"):
        world.run({"failing": ["r5"]})
    (world.root / "engine_works").touch()
    result = world.run({"failing": ["r5"]})
    assert [row["id"] for row in table(result, "scores")] == ALL
    assert table(result, "rejects") == []


def test_a_resumed_run_tokenizes_the_missing_shards_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TeacherError):
        world.run({"die_after": 6})
    done = asked_rows(world.log)
    missing = next(number for number, ids in enumerate(shards(world)) if not set(ids) <= set(done))
    assert missing > 0
    names: list[str] = []

    def spying(renderer: Renderer, shard: dict[str, Any], *arguments: Any) -> Any:
        names.extend(shard["id"])
        return render_rows(renderer, shard, *arguments)

    monkeypatch.setattr(rendered, "render_rows", spying)
    world.run({"die_after": 6})
    assert sorted(names) == sorted(row for ids in shards(world)[missing:] for row in ids), "once each"


def test_a_finished_run_tokenizes_nothing_and_starts_no_engine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("tokenized")

    first = world.run()
    monkeypatch.setattr(rendered, "render_rows", refuse)
    shutil.rmtree(first.artifact.path)  # the units are still there
    again = world.run()
    assert again.how == "made"
    assert again.artifact.content_digest == first.artifact.content_digest
    assert n_starts(world.log) == 1


def test_a_second_reply_about_a_row_is_an_error(world: World) -> None:
    with pytest.raises(TeacherError, match=r"'r5'.*one reply per request"):
        world.run({"twice": ["r5"]})


def test_the_teacher_is_closed_after_errors(world: World) -> None:
    with pytest.raises(TrimsError):
        world.run({"die_after": 5})
    assert world.log.read_text().splitlines()[-1] == "close"


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"teacher": "nonsense"}, "expected vllm, transformers, student, unigram or your own"),
        ({"teacher": "no.such.module:Teacher"}, "no.such"),
        ({"teacher": "fakes.teacher:Nothing"}, "cannot be loaded .*has no attribute 'Nothing'"),
        ({"options": {"wrong": 1}}, r"cannot be made .*options \['wrong'\]"),
        ({"teacher": "fakes.teacher:World"}, "cannot be loaded"),
        ({"teacher": "json:JSONDecoder"}, "cannot be made"),
        ({"model": "/no/such/folder"}, "no such folder"),
        ({"teacher": "transformers", "options": {"x": 1}}, "takes none; remove x"),
        ({"teacher": "vllm", "options": {"dtype": "float32"}}, "set scores.dtype instead"),
    ],
)
def test_a_wrong_teacher_is_a_config_error(scores: dict[str, Any], expected: str, world: World) -> None:
    with pytest.raises(ConfigError, match=expected):
        world.run(**scores)


def test_the_fingerprint_changes_with_what_changes_scores_only(world: World) -> None:
    base = world.run().artifact.fingerprint
    assert world.run(batch_size=3, kv_cache_mib=99).how == "cached"
    elsewhere = write_tokenizer(world.root / "moved" / "teacher")
    assert world.run(model=str(elsewhere)).how == "cached", "the checkpoint counts, not where it lies"
    assert n_starts(world.log) == 1
    assert world.run(dtype="bfloat16").artifact.fingerprint != base
    (elsewhere / "weights.bin").write_bytes(b"other")
    assert world.run(model=str(elsewhere)).artifact.fingerprint != base


def test_the_identity_names_checkpoint_tokenizer_and_the_users_code(world: World) -> None:
    digests = Store(world.root / "store").digests
    identity = teacher_identity(world.config().scores, digests)
    assert set(identity) == {"teacher", "checkpoint", "tokenizer", "code"}
    built_in = teacher_identity(world.config(teacher="vllm").scores, digests)
    assert set(built_in) == {"teacher", "checkpoint", "tokenizer"}
    weights = world.root / "teacher" / "model.safetensors"
    weights.write_bytes(b"x")
    changed = teacher_identity(world.config().scores, digests)
    assert changed["checkpoint"] != identity["checkpoint"]
    assert changed["tokenizer"] == identity["tokenizer"]
