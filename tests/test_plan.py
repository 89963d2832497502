"""What a run would do, and why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fakes.stages import SPECS, tiny_config

from trims_core.config import TrimsConfig
from trims_core.errors import ConfigError
from trims_core.graph import build_graph
from trims_core.plan import PlanRow, explain, plan
from trims_core.stage import run_node
from trims_core.store import Artifact, Store


def make_all(config: TrimsConfig) -> dict[str, Artifact]:
    """The artifacts of the whole pipeline."""
    made: dict[str, Artifact] = {}
    for node in build_graph(config):
        parents = {role: made[parent] for role, parent in node.parents.items()}
        made[node.id] = run_node(Store(config.store), config, node, parents, specs=SPECS).artifact
    return made


def rows(config: TrimsConfig, until: str | None = None, refresh: tuple[str, ...] = ()) -> dict[str, PlanRow]:
    """The plan by node id."""
    return {row.node.id: row for row in plan(Store(config.store), config, until, refresh, SPECS)}


def test_an_empty_store_has_one_miss_and_the_rest_waits(tmp_path: Path) -> None:
    found = rows(tiny_config(tmp_path))
    assert found["corpus"].state == "miss"
    assert found["corpus"].why == "never made"
    assert found["scores"].state == "unknown"
    assert found["scores"].why == "waits for corpus, which will be remade"
    untuned = found["sweep/untuned"]
    assert (untuned.state, untuned.why) == ("miss", "never made; 0 of 1 units are there")


def test_everything_made_is_a_hit_with_its_artifact(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    made = make_all(config)
    found = rows(config)
    assert {row.state for row in found.values()} == {"hit"}
    assert {name: row.artifact for name, row in found.items()} == made


def test_a_changed_field_is_named_with_both_values(tmp_path: Path) -> None:
    make_all(tiny_config(tmp_path))
    found = rows(tiny_config(tmp_path, buckets={"k": 4}))
    assert found["scores"].state == "hit"
    assert (found["buckets"].state, found["buckets"].why) == (
        "miss",
        "config buckets.k changed (8 → 4); 0 of 1 units are there",
    )
    assert found["train/trims-s0"].state == "unknown"


def test_a_changed_input_is_named(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make_all(config)
    (tmp_path / "source.jsonl").write_text('{"id": "new"}\n')
    assert rows(config)["corpus"].why == "input source changed"


def test_changed_parents_are_named_once_they_are_made(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make_all(config)
    (tmp_path / "source.jsonl").write_text('{"id": "new"}\n')
    run_node(Store(config.store), config, build_graph(config)[0], {}, specs=SPECS)
    assert rows(config)["scores"].why == "parent corpus changed; 0 of 1 units are there"


def test_a_refresh_is_a_miss_and_its_children_wait(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make_all(config)
    found = rows(config, refresh=("scores",))
    assert (found["scores"].state, found["scores"].why) == ("miss", "asked for with --refresh")
    assert found["aligned"].state == "unknown"
    assert found["corpus"].state == "hit"


def test_until_leaves_the_rest_out(tmp_path: Path) -> None:
    assert list(rows(tiny_config(tmp_path), until="scores")) == ["corpus", "scores"]
    with pytest.raises(ConfigError, match="did you mean 'scores'"):
        rows(tiny_config(tmp_path), until="score")


def test_a_damaged_artifact_is_not_a_hit(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    made = make_all(config)
    made["scores"].file("scores-00000/scores.parquet").unlink()
    found = rows(config)
    row = found["scores"]
    assert row.state == "miss"
    assert found["aligned"].why == "waits for scores, which is damaged"
    assert row.why.startswith("damaged")
    assert str(made["scores"].file("scores-00000/scores.parquet")) in row.why


def test_explain_lists_every_difference(tmp_path: Path) -> None:
    old = make_all(tiny_config(tmp_path))
    config = tiny_config(tmp_path, scores={"dtype": "bfloat16", "model": "./other"})
    told = explain(Store(config.store), config, "scores", SPECS)
    assert told.compared_with == old["scores"]
    assert [(one.field, one.before, one.now) for one in told.differences] == [
        ("config scores.dtype", "float32", "bfloat16"),
        ("input teacher", "./none", "./other"),
    ]
    assert told.missing == {
        "config scores.dtype changed ('float32' → 'bfloat16'), input teacher changed": (
            "scores-00000",
            "scores-00001",
            "scores-00002",
        )
    }


def test_explain_compares_with_the_same_seed(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, train={"seeds": [0, 1]})
    old = make_all(config)
    changed = tiny_config(tmp_path, train={"seeds": [0, 1], "lr": 0.5})
    told = explain(Store(config.store), changed, "train/trims-s0", SPECS)
    assert told.compared_with == old["train/trims-s0"]
    assert told.why == "config train.lr changed (0.0001 → 0.5); 0 of 1 units are there"


def test_explain_of_a_hit_has_nothing_to_compare(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make_all(config)
    told = explain(Store(config.store), config, "report", SPECS)
    assert (told.state, told.compared_with, told.differences) == ("hit", None, ())


def test_a_deleted_artifact_was_never_made(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    made = make_all(config)
    shutil.rmtree(made["scores"].path)
    assert rows(config)["scores"].why == "never made; 3 of 3 units are there"
    shutil.rmtree(made["corpus"].path)
    assert rows(config)["corpus"].why == "never made", "its units are known once its input was read"
