"""An analysis that takes seconds: a random student, untuned and with a random adapter, and a fake teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fakes.decoding_world import CARD, config_of, trained, write_sweep_world
from fakes.teacher import write_tokenizer

from trims_core.config import TrimsConfig
from trims_core.graph import build_graph, node_named
from trims_core.schema import SAMPLES, read_table
from trims_core.stage import Result, run_node
from trims_core.store import Artifact, Store

NODE = "analysis"
TEACHER = "fakes.teacher:FakeTeacher"
MODELS = ("untuned", "trims-s0")
CELL = "demo-t0.3"
"""The analysed one: there a forward reveals several positions."""


def write_world(
    root: Path, *, variants: Sequence[str] = ("trims",), raw: Mapping[str, Any] | None = None, **sweep: Any
) -> Path:
    """Writes students, teacher, problems and settings; gives back the settings' path.

    Args:
        raw: further sections of the settings. sweep: settings of the sweep.
    """
    sections = {
        "scores": {"teacher": TEACHER, "model": str(write_tokenizer(root / "teacher"))},
        "train": {"variants": {name: {} for name in variants}},
        "analysis": {"samples": 4, "states": 5, "threshold": 0.3},
        **(raw or {}),
    }
    return write_sweep_world(root, raw=sections, **sweep)


def parents_of(config: TrimsConfig, whole: Sequence[str] = ()) -> dict[str, Artifact]:
    """Trainings, sweeps and grades, by role. Args: whole: variants that are checkpoints, not adapters."""
    store, graph = Store(config.store), build_graph(config)
    made: dict[str, Artifact] = {}
    for name in config.train.variants:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setitem(CARD, "kind", "checkpoint" if name in whole else "adapter")
            made[f"train/{name}-s0"] = trained(config, name)
    for node in graph:
        if node.stage in ("sweep", "grades"):
            above = {role: made[parent] for role, parent in node.parents.items()}
            made[node.id] = run_node(store, config, node, above).artifact
    return made


def analyse(root: Path, *overrides: str, whole: Sequence[str] = ()) -> Result:
    """The analysis of the world's settings; what it is made from is made first."""
    config = config_of(root, *overrides)
    parents, node = parents_of(config, whole), node_named(build_graph(config), NODE)
    wanted = {role: parents[parent] for role, parent in node.parents.items()}
    return run_node(Store(config.store), config, node, wanted)


def analysis_in(root: Path) -> int:
    """The same for a process of its own; its exit code."""
    analyse(root)
    return 0


def rows(artifact: Artifact, unit: str, file: str) -> list[dict[str, Any]]:
    """Of a table of a unit."""
    found: list[dict[str, Any]] = pq.read_table(artifact.file(f"{unit}/{file}.parquet")).to_pylist()
    return found


def samples(root: Path, model: str, cell: str) -> dict[str, dict[str, Any]]:
    """A cell's samples by problem."""
    config = config_of(root)
    (sweep,) = (
        one for one in Store(config.store).artifacts("sweep") if one.manifest.node == f"sweep/{model}"
    )
    table = read_table(sweep.file(f"{cell}/0000/samples.parquet"), SAMPLES)
    return {row["sample_id"]: row for row in table.to_pylist()}
