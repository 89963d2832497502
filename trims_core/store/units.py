"""A unit's life: begun in a folder of the attempt's own, published by one rename, found again by its key.

    units/<stage>/
        <fingerprint>/                      a finished unit: its files and unit.json
        .attempts/<fingerprint>.<writer>/   one attempt: files/ becomes the unit; scratch/ outlives a crash
        .retired/<fingerprint>.<time>/      was replaced by a refresh, or damaged; kept until `clean`

    1. begin    an attempt's folder is made, or taken over by renaming it if its writer is dead
    2. make     the stage writes into files/, and into scratch/ what it needs to go on after a crash
    3. seal     files are flushed and hashed, unit.json is written
    4. publish  files/ is renamed to the unit's name; whoever comes second drops his and takes the first one's

No step needs a lock: two processes or hosts never write in one folder, and a name is given once. Recording a
unit costs the same however many there are.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

from trims_core._faults import fault_point
from trims_core.errors import CorruptShardError, IncompleteArtifactError, StoreError
from trims_core.fingerprint import FileDigests, Json, canonical_json
from trims_core.store.artifact import (
    RESERVED_NAMES,
    UNIT_NAME,
    FileEntry,
    UnitKey,
    UnitRecord,
    read_unit,
    unit_folder,
    utc_now,
)
from trims_core.store.durable import (
    disk_errors,
    fsync_file,
    fsync_folder,
    fsync_tree,
    make_folders,
    write_atomically,
)
from trims_core.store.locking import process_start
from trims_core.store.rows import rows_digest
from trims_core.store.swap import exchange
from trims_core.store.verify import entry_problems, parquet_rows

logger = logging.getLogger(__name__)

ATTEMPTS_NAME: Final = ".attempts"
RETIRED_NAME: Final = ".retired"
FILES_NAME: Final = "files"
SCRATCH_NAME: Final = "scratch"
RELEASED: Final = "released"
_ABANDONED_S: Final = 900.0
"""An attempt of another host, of whose writer nothing can be known here, counts as dead after so long
without a change."""
_BEAT_S: Final = 60.0


@dataclass(frozen=True)
class Made:
    """What a stage says about a unit it has made."""

    files: Mapping[str, int | None]
    """Name relative to the unit's folder → rows, or None where there are none to count."""
    notes: Mapping[str, Json] = field(default_factory=dict)
    """JSON-able facts, given back with the unit whenever it is found."""
    aside: Collection[str] = ()
    """Of the files, those that no child depends on: times, logs, cards."""


class Attempt:
    """The writing side of one unit."""

    def __init__(self, folder: Path, key: UnitKey) -> None:
        self.key = key
        self.folder = folder
        self.path = folder / FILES_NAME
        """Write the unit's files here, at any depth."""
        self.scratch = folder / SCRATCH_NAME
        """For checkpoints and logs: kept over crashes until the unit is published, never part of it."""


class Units:
    """The units under a store's root."""

    def __init__(self, root: Path, digests: FileDigests) -> None:
        self._root = root
        self._digests = digests

    def folder(self, key: UnitKey) -> Path:
        """Where a unit lies or will lie."""
        return unit_folder(self._root, key.stage, key.fingerprint)

    def find(self, key: UnitKey) -> UnitRecord | None:
        """The whole unit of a key; None where it was never made, or is damaged and has to be made again.

        One that is found is marked as in use, so that `clean` leaves it to the artifact that will list it.
        """
        folder = self.folder(key)
        if not folder.is_dir():
            return None
        try:
            unit = read_unit(folder)
        except IncompleteArtifactError as error:
            logger.warning("%s", error)
            return None
        for problem in self.problems(unit):
            logger.warning("%s: unit %s is made again: %s", key.stage, key.fingerprint[:12], problem)
            return None
        with suppress(OSError):  # a store that can only be read is not cleaned either
            os.utime(folder)
        return unit

    def problems(self, unit: UnitRecord, rehash: bool = False) -> Iterator[object]:
        """What is wrong with a unit's files."""
        for entry in unit.files:
            yield from entry_problems(unit.path / entry.name, entry, self._digests, rehash)

    @contextmanager
    def attempt(self, key: UnitKey) -> Iterator[Attempt]:
        """A folder to make a unit in. What is in scratch/ stays for the next attempt if this one fails."""
        attempts = self.folder(key).parent / ATTEMPTS_NAME
        mine = attempts / f"{key.fingerprint}.{_writer()}"
        with disk_errors(self._root):
            make_folders(attempts)
            _take_over(attempts, mine)
            attempt = Attempt(mine, key)
            attempt.path.mkdir(parents=True, exist_ok=True)
            attempt.scratch.mkdir(exist_ok=True)
        try:
            with _beating(mine):
                yield attempt
        except OSError as error:
            if mine.exists():
                raise
            raise StoreError(
                f"{mine}: another host took this attempt over: nothing of it changed for {_ABANDONED_S:g} s."
                " Run the same command again"
            ) from error
        finally:
            _release(attempt)

    def publish(
        self,
        attempt: Attempt,
        made: Made,
        seconds: float = 0.0,
        versions: Mapping[str, str] | None = None,
        *,
        replace: bool = False,
    ) -> UnitRecord:
        """Make a unit durable under its name; the one that is there already, if another writer was first.

        Args:
            replace: take the place of the one that is there, which is kept aside until `clean`.
        Raises:
            CorruptShardError: a Parquet file has other rows than stated, or is torn.
            DiskFullError: no room; nothing was published.
        """
        with disk_errors(self._root):
            entries = tuple(self._entry(attempt, made, name) for name in sorted(made.files))
            _drop_others(attempt.path, {entry.name for entry in entries})
            notes = json.loads(canonical_json(dict(made.notes)))
            unit = UnitRecord(
                self.folder(attempt.key),
                attempt.key,
                entries,
                notes,
                round(seconds, 3),
                utc_now(),
                dict(versions or {}),
            )
            fault_point("store.before_unit")
            write_atomically(attempt.path / UNIT_NAME, unit.to_json())
            fsync_tree(attempt.path)
            fault_point("store.before_publish")
            kept = self._rename(attempt, unit, replace)
            fsync_folder(unit.path.parent)
            fault_point("store.after_publish")
        return kept

    def _rename(self, attempt: Attempt, unit: UnitRecord, replace: bool) -> UnitRecord:
        """Put-if-absent. One that is damaged, or is to be replaced, changes places with this one."""
        while True:
            try:
                attempt.path.rename(unit.path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                return unit
            there = None if replace else self.find(unit.key)
            if there is not None:
                logger.info("%s: another writer was first with %s", unit.key.stage, unit.path.name[:12])
                shutil.rmtree(attempt.path)
                return there
            if _replace(attempt.path, unit.path):
                return unit

    def _entry(self, attempt: Attempt, made: Made, name: str) -> FileEntry:
        relative = PurePosixPath(name)
        if (
            relative.is_absolute()
            or ".." in relative.parts
            or str(relative) != name
            or name in RESERVED_NAMES
        ):
            raise ValueError(f"{attempt.key.stage}: {name!r} is not a plain relative name inside a unit")
        entry = file_entry(attempt.path / name, name, made.files[name], self._digests)
        return replace(entry, aside=name in made.aside)


def file_entry(path: Path, name: str, rows: int | None, digests: FileDigests) -> FileEntry:
    """A file's entry; afterwards its bytes are on the device.

    Raises:
        CorruptShardError: a Parquet file has other rows than stated, or is torn.
    """
    fsync_file(path)
    is_table = name.endswith(".parquet")
    counted = parquet_rows(path) if is_table else rows
    if rows is not None and counted != rows:
        raise CorruptShardError(f"{path}: has {counted} rows, expected {rows} as stated by its stage")
    digest = digests.read(path)
    return FileEntry(name, path.stat().st_size, digest, counted, rows_digest(path) if is_table else None)


def _replace(new: Path, final: Path) -> bool:
    """Put a unit in another one's place, so that a crash or a reader finds either; False: its name is free.

    What lay there is kept until `clean`: someone may be reading it. Where the file system cannot exchange two
    names, it is put aside first.
    """
    retired = final.with_name(RETIRED_NAME) / f"{final.name}.{time.time_ns()}"
    make_folders(retired.parent)
    try:
        exchanged = exchange(new, final)
        fault_point("store.before_unit_aside")
        (new if exchanged else final).rename(retired)
    except FileNotFoundError:
        return False  # another writer was here; ask again
    fsync_folder(retired.parent)
    return exchanged


def _writer() -> str:
    """This process as part of a folder's name: start, pid and host tell whether it still lives."""
    pid = os.getpid()
    return f"{process_start(pid)}.{pid}.{socket.gethostname()}"


def attempt_lives(name: str, folder: Path) -> bool:
    """Whether the writer of an attempt's folder may still be at work in it."""
    _fingerprint, start, pid, host = (*name.split(".", 3), "", "")[:4]
    if start == RELEASED:
        return False
    if host == socket.gethostname():
        return str(process_start(int(pid))) == start
    return time.time() - touched(folder) < _ABANDONED_S


def touched(folder: Path) -> float:
    """When something in an attempt's folder changed last (two levels, where progress is written)."""
    paths = [folder, *folder.glob("*"), *folder.glob("*/*")]
    times = []
    for path in paths:
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times, default=0.0)


def _take_over(attempts: Path, mine: Path) -> None:
    """Give this writer's name to what a dead one left of the same unit; of two takers one wins."""
    fingerprint = mine.name.partition(".")[0]
    for path in sorted(attempts.glob(f"{fingerprint}.*")):
        if mine.exists():
            return
        if path != mine and not attempt_lives(path.name, path):
            with suppress(FileNotFoundError):
                path.rename(mine)


@contextmanager
def _beating(folder: Path) -> Iterator[None]:
    """Renews a folder's time during the block, so that other hosts see that its writer lives."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_BEAT_S):
            with suppress(OSError):
                os.utime(folder)

    threading.Thread(target=beat, name="attempt's heartbeat", daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _release(attempt: Attempt) -> None:
    """Leave what the next attempt can use, and nothing else."""
    left = attempt.path.exists() and attempt.scratch.exists() and any(attempt.scratch.iterdir())
    if not left:
        shutil.rmtree(attempt.folder, ignore_errors=True)  # published, or nothing to go on from
        return
    free = attempt.folder.with_name(f"{attempt.key.fingerprint}.{RELEASED}.{time.time_ns()}")
    attempt.folder.rename(free)


def _drop_others(folder: Path, wanted: set[str]) -> None:
    """Remove what an attempt wrote but does not list."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in wanted:
            path.unlink()
