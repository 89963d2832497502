"""The small fake pipeline with results that Prefect can show, found under the real stages' names.

`install(monkeypatch)` lets `load_spec` find these specs in this process; no real stage is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from fakes import stages

from trims_core.config import TrimsConfig
from trims_core.fingerprint import Digests
from trims_core.graph import Node
from trims_core.schema import BUCKETS, SCORES, read_table, write_table
from trims_core.stage import STAGE_MODULES, Outcome, StageSpec, Work, stage_key
from trims_core.store import Artifact, StageKey

ONE_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
before_scores: list[Callable[[Work], None]] = []
"""Called once each, in order, when scores are made: raise here to make the stage fail."""


def write_config(root: Path, teacher: str = "first") -> Path:
    """A YAML file of the small pipeline; the teacher's identity is the content of `teacher.txt`."""
    raw = stages.raw_config(root)
    (root / "teacher.txt").write_text(teacher)
    raw["scores"] = {"teacher": "fake.module:Teacher", "model": str(root / "teacher.txt")}
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the real stages by these for the time of a test."""
    stages.calls.clear()
    before_scores.clear()
    for stage, spec in SPECS.items():
        module = ModuleType(f"fakes_stage_{stage}")
        module.SPEC = spec  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(STAGE_MODULES, stage, module.__name__)  # type: ignore[arg-type]


def _scores_key(
    config: TrimsConfig, node: Node, parents: Mapping[str, Artifact], digests: Digests
) -> StageKey:
    return stage_key("scores", 1, {}, parents, {"checkpoint": digests.file(config.scores.model)})


def _scores(work: Work) -> Outcome:
    """The fake scores, and a note of who scored: another teacher never gives the same bytes."""
    if before_scores:
        before_scores.pop(0)(work)
    note = work.staging.path / "teacher.txt"
    note.write_text(work.staging.key.inputs["checkpoint"])
    work.staging.record("teacher", {note.name: None})
    return stages.SPECS["scores"].produce(work)


def _buckets(work: Work) -> Outcome:
    """Difficulties depend on the teacher's identity, so that another teacher drifts."""
    stages.calls.append(f"{work.node.id}:result")
    shift = int(work.parents["scores"].manifest.inputs["checkpoint"][:4], 16) % 5 + 1
    for number, shard in enumerate(work.parents["scores"].files("scores-", ".parquet")):
        ids = read_table(shard, SCORES)["id"].to_pylist()
        n = len(ids)
        rows = {
            "id": ids,
            "input_ids": [[1, 2, 3]] * n,
            "prompt_length": [1] * n,
            "difficulty_nats": [[float(i * shift % 7), float(i)] for i in range(n)],
            "bucket": [[1 + i % 2, 1] for i in range(n)],
        }
        name = f"buckets-{number:05d}.parquet"
        work.staging.record(name, {name: write_table(work.staging.path / name, BUCKETS, rows)})
        work.progress(number, 3, "shards")
    edges = {
        "k": 2,
        "metric": "nll",
        "edges_nats": [1.0],
        "bucket_sizes": [4, 4],
        "min_nats": 0.0,
        "max_nats": 6.0,
    }
    return _record(work, "edges.json", json.dumps(edges).encode())


def _train(work: Work) -> Outcome:
    stages.calls.append(f"{work.node.id}:result")
    (work.staging.path / "adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md"):
        _record(work, f"adapter/{name}", f"{work.node.id} {name}".encode())
    return Outcome({"n_in": 1, "n_out": 1})


def _sweep(work: Work) -> Outcome:
    stages.calls.append(f"{work.node.id}:result")
    cell = {"task": "demo", "threshold": 0.9, "n": 4, "n_correct": 3, "accuracy": 0.75, "tpf": 3.25}
    return _record(work, "cells.json", json.dumps([cell]).encode())


def _report(work: Work) -> Outcome:
    stages.calls.append(f"{work.node.id}:result")
    (work.staging.path / "figures").mkdir()
    _record(work, "figures/curve.png", ONE_PIXEL)
    return _record(work, "index.html", b"<html>report</html>")


def _record(work: Work, name: str, data: bytes) -> Outcome:
    (work.staging.path / name).write_bytes(data)
    work.staging.record(name, {name: None})
    return Outcome({"n_in": 1, "n_out": 1})


SPECS: Mapping[str, StageSpec] = {
    **stages.SPECS,
    "scores": StageSpec("scores", 1, _scores_key, _scores),
    "buckets": StageSpec("buckets", 1, stages.SPECS["buckets"].key, _buckets),
    "train": StageSpec("train", 1, stages.SPECS["train"].key, _train),
    "sweep": StageSpec("sweep", 1, stages.SPECS["sweep"].key, _sweep),
    "report": StageSpec("report", 1, stages.SPECS["report"].key, _report),
}
