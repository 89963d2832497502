"""Scoring and reading are killed, stopped and starved at every place; the same command finishes."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from fakes.teacher import LOG_VARIABLE, asked_rows, n_starts, raw_config, run_stage, start_stage

from trims_core.graph import build_graph
from trims_core.settings import load_config
from trims_core.stage import load_spec, node_key, open_parents
from trims_core.store import Artifact, Store

pytestmark = pytest.mark.faults

N_ROWS, SHARD_ROWS = 20, 4
PROJECT = Path(__file__).resolve().parents[2]
STORE_SITES = (
    "store.before_unit",
    "store.before_publish",
    "store.after_publish",
    "store.before_manifest",
    "store.before_rename",
    "store.after_rename",
)
ONCE = STORE_SITES[3:]


def sites(stage: str, package: str) -> list[str]:
    """Every fault point of a stage package, found in its source, and those of the store."""
    found: list[str] = []
    for source in sorted((PROJECT / "trims_core" / package).glob("*.py")):
        found += re.findall(rf'fault_point\("({stage}\.[a-z_]+)"\)', source.read_text())
    assert found, f"no fault points of {stage} in {package}"
    return [*found, *STORE_SITES]


class World:
    """A config with its store; stages are run in processes of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.yaml"
        self.log = root / "asked.txt"

    def write(self, **scores: object) -> World:
        raw = raw_config(self.root, N_ROWS, SHARD_ROWS)
        raw["scores"].update(scores)
        self.config.write_text(yaml.safe_dump(raw))
        return self

    def run(self, stage: str, fault: str = "", *arguments: str) -> int:
        env = {"TRIMS_FAULT": fault, LOG_VARIABLE: str(self.log)}
        return run_stage(stage, self.config, env, *arguments)

    def artifact(self, stage: str) -> Artifact | None:
        config = load_config(self.config)
        store = Store(config.store)
        node = next(node for node in build_graph(config) if node.id == stage)
        parents = open_parents(store, config, node)
        return store.find(node_key(store, load_spec(stage), config, node, parents))

    def bytes_of(self, stage: str) -> dict[str, bytes]:
        artifact = self.artifact(stage)
        assert artifact is not None
        return {name: artifact.file(name).read_bytes() for name in artifact.manifest.entries}

    def shards(self) -> list[list[str]]:
        """Ids by shard of the corpus."""
        artifact = self.artifact("corpus")
        assert artifact is not None
        return [pq.read_table(path)["id"].to_pylist() for path in artifact.files("corpus-")]

    def units(self, stage: str) -> list[Path]:
        """Folders of a stage's finished units, oldest first."""
        found = (self.root / "store" / "units" / stage).glob("*/unit.json")
        return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose stages ran without a fault; its corpus is copied into the others."""
    world = World(tmp_path_factory.mktemp("golden")).write()
    assert world.run("corpus") == 0
    shutil.copytree(world.root, world.root.with_name("corpus-only"), dirs_exist_ok=True)
    assert world.run("scores") == 0
    return world


@pytest.fixture
def world(golden: World, tmp_path: Path) -> World:
    """A world with a corpus and no scores, in another folder than the golden one."""
    shutil.copytree(golden.root.with_name("corpus-only") / "store", tmp_path / "store")
    return World(tmp_path).write()


def ids_in(artifact: Artifact | None, name: str) -> list[str]:
    assert artifact is not None
    files = artifact.files(suffix=f"/{name}.parquet")
    return [row for path in files for row in pq.read_table(path)["id"].to_pylist()]


def hit(site: str) -> str:
    """The second passage where there is one, so that a finished shard is at stake."""
    return f"{site}:kill:{1 if site in ONCE else 2}"


@pytest.mark.parametrize("site", sites("scores", "scores"))
def test_scoring_killed_at_any_site_ends_like_an_undisturbed_run(
    site: str, world: World, golden: World
) -> None:
    assert world.run("scores", hit(site)) == -signal.SIGKILL
    assert (world.artifact("scores") is None) == (site != "store.after_rename")
    assert world.run("scores") == 0
    found = world.artifact("scores")
    assert sorted(ids_in(found, "scores")) == sorted(f"r{i}" for i in range(N_ROWS))
    assert world.bytes_of("scores") == golden.bytes_of("scores")
    shards = world.shards()
    lost = 0 if site in ("store.after_publish", *ONCE) else len(shards[1])
    assert len(shards) >= 3
    assert len(asked_rows(world.log)) == N_ROWS + (0 if site == "scores.before_shard" else lost)


@pytest.mark.parametrize("site", sites("corpus", "corpus"))
def test_reading_killed_at_any_site_ends_like_an_undisturbed_run(
    site: str, golden: World, tmp_path: Path
) -> None:
    world = World(tmp_path).write()
    assert world.run("corpus", hit(site)) == -signal.SIGKILL
    assert world.run("corpus") == 0
    assert world.bytes_of("corpus") == golden.bytes_of("corpus")


def test_a_shard_torn_before_it_was_published_is_scored_again(world: World, golden: World) -> None:
    assert world.run("scores", "store.before_publish:kill:3") == -signal.SIGKILL
    (torn,) = (world.root / "store").glob("units/scores/.attempts/*/files/scores.parquet")
    torn.write_bytes(torn.read_bytes()[:-20])
    assert world.run("scores") == 0
    assert world.bytes_of("scores") == golden.bytes_of("scores")


def test_a_published_shard_that_was_torn_is_scored_again_alone(world: World, golden: World) -> None:
    assert world.run("scores", "store.before_manifest:kill") == -signal.SIGKILL
    torn = world.units("scores")[1] / "scores.parquet"
    ids = pq.read_table(torn)["id"].to_pylist()
    torn.write_bytes(torn.read_bytes()[:-20])
    assert world.run("scores") == 0
    assert asked_rows(world.log)[N_ROWS:] == ids
    assert world.bytes_of("scores") == golden.bytes_of("scores")


def test_sigterm_ends_scoring_with_143_and_keeps_finished_shards(world: World, golden: World) -> None:
    assert world.run("scores", "scores.mid_shard:term:3") == 143
    assert world.artifact("scores") is None
    first, second, third, *_ = world.shards()
    assert asked_rows(world.log) == [*first, *second, *third]
    assert world.run("scores") == 0
    assert len(asked_rows(world.log)) == N_ROWS + len(third)
    assert world.bytes_of("scores") == golden.bytes_of("scores")


def test_sigterm_from_outside_closes_the_teacher(world: World) -> None:
    env = {"TRIMS_FAULT": "scores.before_shard:hang:2", LOG_VARIABLE: str(world.log)}
    process = start_stage("scores", world.config, env)
    first = len(world.shards()[0])
    process.wait_until(lambda: world.log.exists() and len(asked_rows(world.log)) == first)
    os.kill(process.pid, signal.SIGTERM)
    assert process.ended(60).code == 143
    assert world.log.read_text().splitlines()[-1] == "close"


def test_a_full_disk_ends_with_75_and_keeps_finished_shards(world: World, golden: World) -> None:
    assert world.run("scores", "scores.mid_shard:enospc:2") == 75
    assert world.run("scores") == 0
    assert world.bytes_of("scores") == golden.bytes_of("scores")
    assert len(asked_rows(world.log)) == N_ROWS + len(world.shards()[1])


def test_a_teacher_that_dies_ends_with_75_and_keeps_finished_shards(world: World) -> None:
    world.write(options={"die_after": 13})
    assert world.run("scores") == 75
    asked = asked_rows(world.log)
    assert len(asked) == 13
    (lost,) = (set(ids) & set(asked) for ids in world.shards() if 0 < len(set(ids) & set(asked)) < len(ids))
    assert world.run("scores") == 0, "what is left is too little to kill the fake again"
    assert len(asked_rows(world.log)) == N_ROWS + len(lost)


def test_finished_scores_start_no_teacher(world: World) -> None:
    assert world.run("scores") == 0
    assert world.run("scores") == 0
    assert n_starts(world.log) == 1


def test_rows_rejected_for_non_finite_scores_are_kept_for_a_higher_limit(world: World, golden: World) -> None:
    world.write(options={"values": {"r1": "nan", "r6": "-inf"}})
    assert world.run("scores") == 1
    assert world.run("scores", "", "--set", "scores.max_rejected_fraction=0.1") == 0
    assert len(asked_rows(world.log)) == N_ROWS
    found = world.artifact("scores")
    assert sorted(ids_in(found, "rejects")) == ["r1", "r6"]
    assert set(ids_in(found, "scores")) == {f"r{i}" for i in range(N_ROWS)} - {"r1", "r6"}
