"""Loss curves say what was logged, in few points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trims_core.errors import ReportError
from trims_core.report.losses import losses_of
from trims_core.store import Artifact, FileEntry, Manifest


def trained(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Artifact]:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / "metrics.jsonl").write_bytes(data)
    entry = FileEntry("metrics.jsonl", len(data), "")
    manifest = Manifest("train", "train/trims-s0", 1, "f" * 64, files=(entry,), counts={}, seconds=1.0)
    return {"train/trims-s0": Artifact(folder, manifest), "corpus": Artifact(folder, manifest)}


def row(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "kind": "train", "loss": 1.0 + step, **more}


def test_parts_and_the_masked_share_are_means_of_blocks(tmp_path: Path) -> None:
    rows = [row(s, masked_fraction=s / 1000, parts={"content": 1.0, "ends": float(s)}) for s in range(1, 601)]
    found = losses_of(trained(tmp_path, rows))["trims-s0"]
    assert (found["method"], found["n_logged"]) == ("trims", 600)
    assert [len(found[name]) for name in ("train", "smoothed", "masked_share")] == [200, 30, 60]
    assert found["parts"]["ends"][0] == [5.5, 5.5]
    assert found["parts"]["content"][-1] == [595.5, 1.0]
    assert found["masked_share"][-1] == [595.5, 0.5955]
    assert found["smoothed"][0] == [10.5, 11.5]


def test_a_training_that_does_not_tell_its_parts_has_none(tmp_path: Path) -> None:
    rows = [row(1), {"step": 1, "kind": "eval", "loss": 0.5}]
    found = losses_of(trained(tmp_path, rows))["trims-s0"]
    assert (found["parts"], found["masked_share"], found["eval"]) == ({}, [], [[1, 0.5]])


def test_a_loss_that_is_no_number_is_refused_with_its_steps(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"train/trims-s0: .* not finite, at steps \[2\]"):
        losses_of(trained(tmp_path, [row(1), {**row(2), "loss": None}]))
