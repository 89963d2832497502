"""A sweep that takes a second: a random student, six problems, one task, two thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fakes.decoding_checkpoint import write_student

from trims_core.config import TrimsConfig
from trims_core.schema import SAMPLES, read_table
from trims_core.settings import load_config
from trims_core.store import Artifact, Store

N_PROBLEMS = 6
CELLS = ("demo-tone", "demo-t0.9", "demo-t0.3")
NODE = "sweep/untuned"


def write_sweep_world(root: Path, **sweep: Any) -> Path:
    """Writes the student, the problems and the settings; gives back the settings' path."""
    write_student(root / "student")
    rows = [
        {"id": f"p{i}", "question": "How many?" + " Count." * i, "answer": f"The answer is {i}."}
        for i in range(N_PROBLEMS)
    ]
    (root / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = {
        "name": "tiny",
        "store": str(root / "store"),
        "corpus": {"path": str(root / "test.jsonl")},
        "scores": {"model": str(root / "student")},
        "student": {"model": str(root / "student"), "device": "cpu"},
        "sweep": {
            "tasks": {"demo": {"benchmark": "demo", "path": str(root / "test.jsonl")}},
            "thresholds": [0.9, 0.3],
            "gen_length": 16,
            "block_length": 8,
            "batch_size": 4,
            **sweep,
        },
    }
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def config_of(root: Path, *overrides: str) -> TrimsConfig:
    """The world's settings."""
    return load_config(root / "tiny.yaml", overrides, env={})


def sweep_artifact(root: Path) -> Artifact:
    """The one committed sweep."""
    (artifact,) = Store(root / "store").artifacts("sweep")
    return artifact


def timeless(artifact: Artifact) -> dict[str, Any]:
    """Everything a sweep found, times left out; confidences rounded as another batch may round them."""
    found: dict[str, Any] = {}
    for path in artifact.files(prefix="cells/"):
        columns = read_table(path, SAMPLES).drop_columns(["seconds", "confidence"]).to_pydict()
        confidence = read_table(path, SAMPLES)["confidence"].to_pylist()
        columns["confidence"] = [
            [None if value is None else float(np.round(value, 4)) for value in row] for row in confidence
        ]
        found[path.stem] = columns
    summaries = json.loads(artifact.file("cells.json").read_text())
    times = ("seconds", "tokens_per_second")
    found["cells"] = [{key: value for key, value in row.items() if key not in times} for row in summaries]
    return found
