"""Where a stage writes before its artifact is complete, and what survives a crash there.

    .staging-<fingerprint>/
        files/          what becomes the artifact
        scratch/        checkpoints and logs: kept over crashes, never part of the artifact
        journal.json    finished units, each with its files (bytes, sha256, rows) and what the stage noted
        writer.json     the process that writes here

A unit (a shard, a cell, an adapter) is finished once `record` has returned; a crash loses at most the unit
in flight. Only recorded files enter the artifact.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from trims_core._faults import fault_point
from trims_core.errors import CorruptShardError
from trims_core.fingerprint import FileDigests, Json, canonical_json, sha256_file
from trims_core.store.artifact import RESERVED_NAMES, FileEntry, StageKey
from trims_core.store.durable import disk_errors, fsync_file, fsync_folder, write_atomically
from trims_core.store.locking import sign
from trims_core.store.verify import parquet_rows

logger = logging.getLogger(__name__)

JOURNAL_NAME: Final = "journal.json"
FILES_NAME: Final = "files"
SCRATCH_NAME: Final = "scratch"


@dataclass(frozen=True)
class Unit:
    """A finished part of a stage's work."""

    files: tuple[FileEntry, ...]
    info: Mapping[str, Json] = field(default_factory=dict)


class Staging:
    """The writing side of one artifact, held under its lock. Safe to use from several threads."""

    def __init__(self, folder: Path, key: StageKey, digests: FileDigests) -> None:
        self.key = key
        self.folder = folder
        self.path = folder / FILES_NAME
        """Write files here, at any depth, and `record` them."""
        self.scratch = folder / SCRATCH_NAME
        """For checkpoints and logs."""
        self.replaces: int | None = None
        """Inode of the committed artifact that a refresh will put aside."""
        self._digests = digests
        self._lock = threading.RLock()
        self._units: dict[str, Unit] = {}

    def open(self) -> None:
        """Make the folders, sign them, and take over what an earlier writer finished."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.scratch.mkdir(exist_ok=True)
        sign(self.folder)
        for name, unit in self._read_journal():
            if problem := self._damage(unit):
                logger.warning("%s: unit %s is redone: %s", self.key.stage, name, problem)
            else:
                self._units[name] = unit
        if self._units:
            logger.info("%s: %d finished units of an earlier run are kept", self.key.stage, len(self._units))

    def is_done(self, unit: str) -> bool:
        """Whether a unit was recorded, now or before a crash."""
        return unit in self._units

    def unit(self, unit: str) -> Mapping[str, Json]:
        """What was noted about a finished unit. Raises: KeyError."""
        return self._units[unit].info

    def done_units(self) -> list[str]:
        """Names of the finished units, in the order of their recording."""
        return list(self._units)

    def entries(self) -> tuple[FileEntry, ...]:
        """All recorded files, sorted by name."""
        found = [entry for unit in self._units.values() for entry in unit.files]
        return tuple(sorted(found, key=lambda entry: entry.name))

    def files(self, prefix: str = "", suffix: str = "") -> list[Path]:
        """Paths of recorded files whose names start and end so, sorted by name."""
        names = [entry.name for entry in self.entries()]
        return [self.path / name for name in names if name.startswith(prefix) and name.endswith(suffix)]

    def record(
        self, unit: str, files: Mapping[str, int | None], info: Mapping[str, Json] | None = None
    ) -> None:
        """Make a unit durable: its files are flushed, hashed once, and listed in the journal.

        Args:
            files: name relative to `path` (with `/`) → rows, or None where there are none to count
                (Parquet rows are counted in any case). An empty mapping notes a unit without files.
            info: JSON-able facts about the unit, given back by `unit` after a crash.
        Raises:
            CorruptShardError: a Parquet file has other rows than stated, or is torn.
            DiskFullError: no room for the journal; nothing was recorded.
        """
        notes = json.loads(canonical_json(dict(info or {})))
        with self._lock, disk_errors(self.folder):
            entries = tuple(self._entry(unit, name, rows) for name, rows in sorted(files.items()))
            for folder in {(self.path / entry.name).parent for entry in entries}:
                self._flush_folders(folder)
            fault_point("store.before_journal")
            units = {**self._units, unit: Unit(entries, notes)}
            self._write_journal(units)
            self._units = units
            fault_point("store.after_journal")

    def drop_unrecorded(self) -> None:
        """Remove files no unit lists: leftovers of units that crashed and were redone otherwise."""
        listed = {self.path / entry.name for entry in self.entries()}
        for path in sorted(self.path.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path not in listed:
                logger.warning("%s: %s was never recorded and is dropped", self.key.stage, path.name)
                path.unlink()

    def flush_folders(self) -> None:
        """Flush the entries of every folder that holds recorded files."""
        for folder in {self.path, *((self.path / entry.name).parent for entry in self.entries())}:
            self._flush_folders(folder)

    def remove(self) -> None:
        """Delete the staging folder; its artifact is committed or another one was adopted."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _entry(self, unit: str, name: str, rows: int | None) -> FileEntry:
        relative = PurePosixPath(name)
        if (
            relative.is_absolute()
            or ".." in relative.parts
            or str(relative) != name
            or name in RESERVED_NAMES
        ):
            raise ValueError(f"unit {unit}: {name!r} is not a plain relative name inside the artifact")
        for other, found in self._units.items():
            if other != unit and any(entry.name == name for entry in found.files):
                raise ValueError(f"unit {unit}: {name!r} belongs to unit {other} already")
        path = self.path / name
        fsync_file(path)
        counted = parquet_rows(path) if name.endswith(".parquet") else rows
        if rows is not None and counted != rows:
            raise CorruptShardError(f"{path}: has {counted} rows, expected {rows} as stated by unit {unit}")
        digest = sha256_file(path)
        stat = path.stat()
        self._digests.remember(stat, digest)
        return FileEntry(name, stat.st_size, digest, counted)

    def _flush_folders(self, folder: Path) -> None:
        while folder != self.folder:
            fsync_folder(folder)
            folder = folder.parent

    def _read_journal(self) -> Iterator[tuple[str, Unit]]:
        path = self.folder / JOURNAL_NAME
        if not path.exists():
            return
        for name, unit in json.loads(path.read_bytes())["units"].items():
            yield name, Unit(tuple(FileEntry(**entry) for entry in unit["files"]), unit["info"])

    def _write_journal(self, units: Mapping[str, Unit]) -> None:
        listing = {
            name: {"files": [asdict(entry) for entry in unit.files], "info": unit.info}
            for name, unit in units.items()
        }
        text = json.dumps({"units": listing}, ensure_ascii=False, allow_nan=False)
        write_atomically(self.folder / JOURNAL_NAME, text.encode())

    def _damage(self, unit: Unit) -> str | None:
        """Why a journalled unit cannot be kept, or None."""
        for entry in unit.files:
            path = self.path / entry.name
            if not path.is_file():
                return f"{entry.name} is gone"
            if path.stat().st_size != entry.size_bytes or self._digests.sha256(path) != entry.sha256:
                return f"{entry.name} changed after it was recorded"
        return None
