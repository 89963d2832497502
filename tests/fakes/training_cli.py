"""The training stage on made-up buckets, in this process or in one of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml
from fakes import forking, stages

from trims_core.config import TrimsConfig
from trims_core.graph import build_graph, node_named
from trims_core.settings import parse_config
from trims_core.stage import Make, Outcome, StageSpec, Unit, Work, main, run_node
from trims_core.store import Artifact, Attempt, Made, Store, UnitRecord

NODE = "train/trims-s0"


def _buckets_units(work: Work, _facts: None) -> list[Unit]:
    return [Unit("buckets-all", work.settings.result_fields())]


def _buckets_maker(
    work: Work, _facts: None, _waiting: Sequence[Unit], _done: Sequence[UnitRecord]
) -> AbstractContextManager[Make]:
    def make(_unit: Unit, attempt: Attempt) -> Made:
        from fakes.training_student import write_bucket_shards

        return Made({path.name: None for path in write_bucket_shards(attempt.path)})

    return stages.making(make, work)


def _buckets_finish(work: Work, _facts: None, _done: Mapping[str, UnitRecord]) -> Outcome:
    from fakes.training_student import N_BUCKETS

    (work.folder / "edges.json").write_text(json.dumps({"k": N_BUCKETS, "metric": "nll"}))
    return Outcome({"n_in": 20, "n_out": 20}, files={"edges.json": None})


_ABOVE = ("corpus", "scores", "aligned", "buckets")
SPECS = {name: stages.SPECS[name] for name in _ABOVE} | {
    "buckets": StageSpec(
        "buckets",
        1,
        settings=lambda config, _node: config.buckets,
        units=_buckets_units,
        maker=_buckets_maker,
        finish=_buckets_finish,
    )
}


def raw_config(root: Path, **train: Any) -> dict[str, Any]:
    """Settings of a tiny run with its student, store and parents under `root`."""
    from fakes.training_student import tiny_train, write_student

    student = root / "student"
    if not student.exists():
        write_student(student)
    raw = stages.raw_config(root)
    raw["buckets"] = {"k": 4}
    raw["student"] = {"model": str(student), "device": "cpu"}
    settings = tiny_train().model_dump(mode="json")
    raw["train"] = {**settings, "variants": {"trims": {}, "standard": {"method": "standard"}}, **train}
    return raw


def prepare(root: Path, **train: Any) -> tuple[Path, TrimsConfig, Store]:
    """A config file whose buckets exist in the store, ready for `start`."""
    raw = raw_config(root, **train)
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(raw))
    config = parse_config(raw)
    store = Store(config.store)
    made: dict[str, Artifact] = {}
    graph = build_graph(config)
    for name in _ABOVE:
        node = node_named(graph, name)
        parents = {role: made[parent] for role, parent in node.parents.items()}
        made[name] = run_node(store, config, node, parents, specs=SPECS).artifact
    return path, config, store


def start(config: Path, env: Mapping[str, str] | None = None) -> forking.Forked:
    """The training stage in a process of its own."""
    return forking.start(_run, ["train", "--config", str(config), "--node", NODE], env=env)


def ended(process: forking.Forked) -> tuple[int, str]:
    """(exit code, what it said)."""
    code, out, err = process.ended()
    return code, out + err


def _run(arguments: Sequence[str]) -> int:
    return main(arguments, SPECS)
