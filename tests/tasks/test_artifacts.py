"""Artifact keys are valid and distinct; tables say what the files say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import artifacts
from tasks.artifacts import artifact_key, cell_rows, edge_rows, publish_image
from trims_core.store import Artifact, FileEntry, Manifest

NAMES = st.from_regex(r"^[a-z0-9][a-z0-9_.-]{0,12}$", fullmatch=True)


@given(NAMES, NAMES)
def test_keys_are_valid_and_differ_where_names_differ(a: str, b: str) -> None:
    first, second = artifact_key("trims", a), artifact_key("trims", b)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", first)
    assert (first == second) == (a == b)


def test_plain_names_keep_readable_keys() -> None:
    assert artifact_key("trims", "demo", "train/trims-s0") == "trims-demo-train-trims-s0"


def _artifact(folder: Path, **files: bytes) -> Artifact:
    entries = []
    for name, data in files.items():
        real = name.replace("__", ".")
        (folder / real).write_bytes(data)
        entries.append(FileEntry(real, len(data), ""))
    counts = {"n_in": 3}
    manifest = Manifest("buckets", "buckets", 1, "f" * 64, files=tuple(entries), counts=counts, seconds=1.5)
    return Artifact(folder, manifest)


def test_bucket_rows_go_from_hard_to_easy(tmp_path: Path) -> None:
    edges = {"edges_nats": [0.1, 1.0], "bucket_sizes": [5, 6, 7], "min_nats": 0.0, "max_nats": 9.0}
    rows = edge_rows(_artifact(tmp_path, edges__json=json.dumps(edges).encode()))
    assert rows == [
        {"bucket": 1, "n_tokens": 5, "hardest_nats": 9.0, "easiest_nats": 1.0},
        {"bucket": 2, "n_tokens": 6, "hardest_nats": 1.0, "easiest_nats": 0.1},
        {"bucket": 3, "n_tokens": 7, "hardest_nats": 0.1, "easiest_nats": 0.0},
    ]


def test_cell_rows_are_rounded_and_keep_their_n(tmp_path: Path) -> None:
    cell = {"task": "demo", "threshold": None, "n": 200, "accuracy": 0.123456, "tpf": 1.0, "other": "x"}
    (row,) = cell_rows(_artifact(tmp_path, cells__json=json.dumps([cell]).encode()))
    assert (row["accuracy"], row["n"], row["threshold"], "other" in row) == (0.1235, 200, None, False)


def test_a_picture_too_large_for_the_data_base_is_named_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda text, key: shown.append(text))
    artifact = _artifact(tmp_path, big__png=bytes((1 << 20) + 1))
    publish_image("trims-report", artifact.file("big.png"), "a report")
    assert "big.png" in shown[0]
