"""The files of an artifact that span its units: written anew by each attempt, all of them listed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trims_core.errors import CorruptShardError
from trims_core.fingerprint import FileDigests, sha256_file
from trims_core.store import StageKey, Staging

KEY = StageKey("scores", 1, {})


def opened(folder: Path) -> Staging:
    """The staging folder as the next process finds it."""
    staging = Staging(folder, KEY, FileDigests(None))
    staging.open()
    return staging


def test_the_entry_of_a_file_is_its_size_and_sha256(tmp_path: Path) -> None:
    staging = opened(tmp_path)
    (staging.path / "one.txt").write_text("12345")
    (entry,) = staging.entries({"one.txt": None})
    assert (entry.name, entry.size_bytes, entry.rows, entry.digest) == ("one.txt", 5, None, None)
    assert entry.sha256 == sha256_file(tmp_path / "files" / "one.txt")


def test_the_next_attempt_begins_without_files_and_keeps_the_scratch(tmp_path: Path) -> None:
    staging = opened(tmp_path)
    (staging.path / "half.txt").write_text("half")
    (staging.scratch / "engine.log").write_text("log")
    again = opened(tmp_path)
    assert list(again.path.iterdir()) == []
    assert (again.scratch / "engine.log").read_text() == "log"


def test_rows_of_parquet_files_are_counted_in_any_case(tmp_path: Path) -> None:
    staging = opened(tmp_path)
    pq.write_table(pa.table({"x": [1, 2, 3]}), staging.path / "a.parquet")
    (entry,) = staging.entries({"a.parquet": None})
    assert entry.rows == 3
    assert entry.digest not in (None, entry.sha256)
    with pytest.raises(CorruptShardError, match="has 3 rows, expected 4"):
        staging.entries({"a.parquet": 4})


def test_a_torn_parquet_file_is_not_listed(tmp_path: Path) -> None:
    staging = opened(tmp_path)
    (staging.path / "a.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(CorruptShardError, match="not a readable Parquet file"):
        staging.entries({"a.parquet": None})


@pytest.mark.parametrize("listed", [{}, {"a.txt": None, "b.txt": None}, {"../files/a.txt": None}])
def test_what_is_listed_is_what_was_written(tmp_path: Path, listed: dict[str, None]) -> None:
    staging = opened(tmp_path)
    (staging.path / "a.txt").write_text("a")
    with pytest.raises(ValueError, match="wrote"):
        staging.entries(listed)


@pytest.mark.parametrize("name", ["manifest.json", "card.md", "unit.json"])
def test_names_the_store_uses_are_refused(tmp_path: Path, name: str) -> None:
    staging = opened(tmp_path)
    (staging.path / name).write_text("{}")
    with pytest.raises(ValueError, match="wrote"):
        staging.entries({name: None})
