"""Units: finished once recorded, kept over crashes, redone when in doubt."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trims_core.errors import CorruptShardError
from trims_core.fingerprint import FileDigests, sha256_file
from trims_core.store import StageKey, Staging

KEY = StageKey("scores", 1, {})


def reopened(folder: Path) -> Staging:
    """The staging folder as the next process finds it."""
    staging = Staging(folder, KEY, FileDigests(None))
    staging.open()
    return staging


def recorded(folder: Path, unit: str = "one", text: str = "1") -> Staging:
    """A staging folder with one finished unit of one file."""
    staging = reopened(folder)
    (staging.path / f"{unit}.txt").write_text(text)
    staging.record(unit, {f"{unit}.txt": None}, {"seconds": 1.5, "ids": ["a"]})
    return staging


def test_a_recorded_unit_is_done_and_keeps_its_notes_for_the_next_process(tmp_path: Path) -> None:
    recorded(tmp_path)
    staging = reopened(tmp_path)
    assert staging.is_done("one")
    assert not staging.is_done("two")
    assert staging.unit("one") == {"seconds": 1.5, "ids": ["a"]}
    assert staging.done_units() == ["one"]


def test_the_manifest_entry_of_a_file_is_its_size_and_sha256(tmp_path: Path) -> None:
    (entry,) = recorded(tmp_path, text="12345").entries()
    assert (entry.name, entry.size_bytes, entry.rows) == ("one.txt", 5, None)
    assert entry.sha256 == sha256_file(tmp_path / "files" / "one.txt")


def test_a_unit_without_files_can_be_noted(tmp_path: Path) -> None:
    staging = reopened(tmp_path)
    staging.record("scan", {}, {"n": 3})
    assert reopened(tmp_path).unit("scan") == {"n": 3}


@pytest.mark.parametrize("text", ["", "x", "22"])
def test_a_file_that_changed_after_its_record_makes_its_unit_undone(tmp_path: Path, text: str) -> None:
    recorded(tmp_path, "one")
    recorded(tmp_path, "two")
    (tmp_path / "files" / "one.txt").write_text(text)
    staging = reopened(tmp_path)
    assert staging.done_units() == ["two"]


def test_a_file_that_is_gone_makes_its_unit_undone(tmp_path: Path) -> None:
    recorded(tmp_path)
    (tmp_path / "files" / "one.txt").unlink()
    assert not reopened(tmp_path).is_done("one")


def test_recording_a_unit_again_replaces_it(tmp_path: Path) -> None:
    recorded(tmp_path, text="old")
    staging = recorded(tmp_path, text="newer")
    assert [entry.size_bytes for entry in staging.entries()] == [5]


def test_rows_of_parquet_files_are_counted_in_any_case(tmp_path: Path) -> None:
    staging = reopened(tmp_path)
    pq.write_table(pa.table({"x": [1, 2, 3]}), staging.path / "a.parquet")
    staging.record("a", {"a.parquet": None})
    assert [entry.rows for entry in staging.entries()] == [3]
    with pytest.raises(CorruptShardError, match="has 3 rows, expected 4"):
        staging.record("a", {"a.parquet": 4})


def test_a_torn_parquet_file_cannot_be_recorded(tmp_path: Path) -> None:
    staging = reopened(tmp_path)
    (staging.path / "a.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(CorruptShardError, match="not a readable Parquet file"):
        staging.record("a", {"a.parquet": None})
    assert not staging.is_done("a")


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.txt", "a/../b.txt", "a//b.txt", "manifest.json"])
def test_names_outside_the_artifact_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="plain relative name"):
        reopened(tmp_path).record("a", {name: None})


def test_one_file_belongs_to_one_unit(tmp_path: Path) -> None:
    staging = recorded(tmp_path)
    with pytest.raises(ValueError, match="belongs to unit one"):
        staging.record("two", {"one.txt": None})


def test_notes_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nan"):
        reopened(tmp_path).record("a", {}, {"loss": float("nan")})


def test_the_journal_lists_units_with_their_digests(tmp_path: Path) -> None:
    recorded(tmp_path)
    unit = json.loads((tmp_path / "journal.json").read_text())["units"]["one"]
    assert unit["files"][0]["sha256"] == sha256_file(tmp_path / "files" / "one.txt")
