"""Where an artifact is put together before its commit.

    <store>/<stage>/.staging-<fingerprint>/
        files/          the files that span the units, written anew by each attempt: they take seconds
        scratch/        logs of an engine
        writer.json     the process that writes here

What must not be lost lies in units (`trims_core.store.units`); an artifact is their list.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from trims_core.fingerprint import FileDigests
from trims_core.store.artifact import RESERVED_NAMES, FileEntry, StageKey
from trims_core.store.locking import sign
from trims_core.store.units import FILES_NAME, SCRATCH_NAME, file_entry


class Staging:
    """The writing side of one artifact, held under its lock."""

    def __init__(self, folder: Path, key: StageKey, digests: FileDigests) -> None:
        self.key = key
        self.folder = folder
        self.path = folder / FILES_NAME
        """Write files here, at any depth."""
        self.scratch = folder / SCRATCH_NAME
        """For logs."""
        self.replaces: int | None = None
        """Inode of the committed artifact that this one will put aside."""
        self._digests = digests

    def open(self) -> None:
        """Make the folder, empty, and sign it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        self.scratch.mkdir(exist_ok=True)
        sign(self.folder)

    def entries(self, files: Mapping[str, int | None], aside: Collection[str] = ()) -> tuple[FileEntry, ...]:
        """Make files durable; gives back their entries.

        Args:
            aside: of the files, those that no child depends on.
        Raises:
            ValueError: a file that is not listed, or a name that is taken. CorruptShardError: a torn table.
        """
        there = {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file()}
        if there != set(files) or RESERVED_NAMES & there:
            raise ValueError(f"{self.key.stage}: wrote {sorted(there)}, listed {sorted(files)}")
        entries = (file_entry(self.path / name, name, files[name], self._digests) for name in sorted(files))
        return tuple(replace(entry, aside=entry.name in aside) for entry in entries)

    def remove(self) -> None:
        """Delete the staging folder; its artifact is committed or another one was adopted."""
        shutil.rmtree(self.folder, ignore_errors=True)
