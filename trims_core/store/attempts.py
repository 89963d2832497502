"""An attempt at a unit or an artifact: a folder of its writer's own that one rename makes the thing itself.

    <place>/
        <fingerprint>/                      finished
        .attempts/<fingerprint>.<writer>/   one attempt: files/ becomes it; scratch/ outlives a crash
        .retired/<fingerprint>.<time>/      was replaced by a refresh, or damaged; kept until `clean`

    1. begin   a folder is made, or taken over by renaming it if its writer is dead
    2. make    files are written into files/, and into scratch/ what is needed to go on after a crash
    3. seal    the listed files are flushed and hashed, others are removed
    4. put     files/ is renamed to the fingerprint; whoever comes second takes the first one's

No step needs a lock: two processes or hosts never write in one folder, and a name is given once. What is
damaged, or to be refreshed, changes places with the new one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

from trims_core._faults import fault_point
from trims_core.errors import CorruptShardError, StoreError
from trims_core.fingerprint import FileDigests
from trims_core.store.artifact import ATTEMPTS_NAME, RESERVED_NAMES, RETIRED_NAME, FileEntry
from trims_core.store.durable import disk_errors, fsync_file, fsync_folder, make_folders
from trims_core.store.locking import process_start
from trims_core.store.rows import rows_digest
from trims_core.store.verify import parquet_rows

T = TypeVar("T")
_FILES_NAME: Final = "files"
_SCRATCH_NAME: Final = "scratch"
RELEASED: Final = "released"
_ABANDONED_S: Final = 900.0
"""An attempt of another host, of whose writer nothing can be known here, counts as dead after so long
without a change."""
_BEAT_S: Final = 60.0
_BELIEVED_S: Final = 2.5 * _BEAT_S
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_UNSUPPORTED: Final = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV)


class Attempt:
    """The writing side of one unit or artifact."""

    def __init__(self, folder: Path, final: Path, replaces: int | None = None) -> None:
        self.folder = folder
        self.final = final
        self.replaces = replaces
        """Inode of the one that is put aside although it is whole."""
        self.path = folder / _FILES_NAME
        """Write files here, at any depth."""
        self.scratch = folder / _SCRATCH_NAME
        """For checkpoints and logs: kept over crashes until the rename, never part of it."""

    def empty(self) -> None:
        """Drop what a dead writer left in files/: they are written anew."""
        shutil.rmtree(self.path)
        self.path.mkdir()

    def seal(
        self, files: Mapping[str, int | None], aside: Collection[str], digests: FileDigests
    ) -> tuple[FileEntry, ...]:
        """Make the listed files durable and drop all others; gives back their entries.

        Args:
            files: name relative to `path` → rows, or None where there are none to count.
            aside: of the files, those that no child depends on.
        Raises:
            CorruptShardError: a Parquet file has other rows than stated, or is torn.
            ValueError: a name that leaves the folder or is the store's own.
        """
        for name in files:
            plain = PurePosixPath(name)
            if plain.is_absolute() or ".." in plain.parts or str(plain) != name or name in RESERVED_NAMES:
                raise ValueError(f"{self.final.parent.name}: {name!r} is not a plain relative name of a file")
        entries = tuple(_entry(self.path / name, name, files[name], digests) for name in sorted(files))
        _drop_others(self.path, set(files))
        return tuple(replace(entry, aside=entry.name in aside) for entry in entries)

    def put(self, find: Callable[[], T | None]) -> T | None:
        """Rename into place. Where another writer was first with a whole one: that one, and these files go.

        What this one `replaces` is retired, and so is what is damaged.

        Args:
            find: the whole one that is there, if it is whole.
        """
        while True:
            try:
                self.path.rename(self.final)
                return None
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if inode(self.final) != self.replaces and (theirs := find()) is not None:
                shutil.rmtree(self.path)
                return theirs
            if self._replace():
                return None

    def _replace(self) -> bool:
        """Change places with what is there, so that a crash or a reader finds either.

        Where the file system cannot exchange two names, what is there is put aside first, and the name is
        free: False.
        """
        retired = _retired_name(self.final)
        make_folders(retired.parent)
        try:
            exchanged = exchange(self.path, self.final)
            fault_point("store.before_aside")
            (self.path if exchanged else self.final).rename(retired)
        except FileNotFoundError:
            return False  # another writer was here; ask again
        fsync_folder(retired.parent)
        fault_point("store.after_aside")
        return exchanged


@contextmanager
def attempt_at(final: Path, root: Path, replaces: int | None = None) -> Iterator[Attempt]:
    """A folder to make something in. What is in scratch/ stays for the next attempt if this one fails.

    Args:
        final: where it will lie.
        root: the store's, for messages about its disk.
        replaces: inode of the one there is, if it is to be put aside although it is whole. It must have been
            asked for before that one was looked at: what came later is newer.
    """
    attempts = final.parent / ATTEMPTS_NAME
    mine = attempts / f"{final.name}.{_writer()}"
    with disk_errors(root):
        make_folders(attempts)
        _take_over(attempts, mine)
        attempt = Attempt(mine, final, replaces)
        _keep_replaced(attempt)
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


def is_taken(final: Path) -> bool:
    """Whether another living writer is at work on something.

    One of another host is believed as long as its heart beats; taking its attempt over needs a longer
    silence.
    """
    mine = f"{final.name}.{_writer()}"
    others = [path for path in (final.parent / ATTEMPTS_NAME).glob(f"{final.name}.*") if path.name != mine]
    return any(attempt_lives(path, silent_s=_BELIEVED_S) for path in others)


def inode(path: Path) -> int | None:
    """Which folder a name stands for now; None for no folder."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def exchange(one: Path, other: Path) -> bool:
    """Let two names change places atomically; False where the system or file system cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(one))


def retire(final: Path) -> Path:
    """Put something aside, kept until `clean`; gives back where. Raises: FileNotFoundError."""
    retired = _retired_name(final)
    make_folders(retired.parent)
    final.rename(retired)
    fsync_folder(retired.parent)
    fsync_folder(final.parent)
    return retired


def retired_folders(final: Path) -> list[Path]:
    """What was put aside under this name, oldest first."""
    return sorted(final.with_name(RETIRED_NAME).glob(f"{final.name}.*"))


def attempt_lives(folder: Path, silent_s: float = _ABANDONED_S) -> bool:
    """Whether the writer of an attempt's folder may still be at work in it.

    Args:
        silent_s: one of another host counts as dead once nothing has changed for so long.
    """
    _fingerprint, start, task, host = (*folder.name.split(".", 3), "", "")[:4]
    if start == RELEASED:
        return False
    if host == socket.gethostname():
        return str(process_start(int(task))) == start
    return time.time() - touched(folder) < silent_s


def touched(folder: Path) -> float:
    """When something in an attempt's folder changed last (two levels, where progress is written)."""
    times = [0.0]
    for parent, folders, names in os.walk(folder):  # what vanishes meanwhile is skipped
        for name in ("", *names):
            with suppress(FileNotFoundError):
                times.append(Path(parent, name).stat().st_mtime)
        if parent != str(folder):
            folders.clear()
    return max(times)


def _retired_name(final: Path) -> Path:
    return final.with_name(RETIRED_NAME) / f"{final.name}.{time.time_ns()}"


def _writer() -> str:
    """This thread as part of a folder's name: start, task and host tell whether it still lives."""
    task = threading.get_native_id()
    return f"{process_start(task)}.{task}.{socket.gethostname()}"


def _take_over(attempts: Path, mine: Path) -> None:
    """Give this writer's name to what a dead one left of the same thing; of two takers one wins."""
    fingerprint = mine.name.partition(".")[0]
    for path in sorted(attempts.glob(f"{fingerprint}.*")):
        if mine.exists():
            return
        if path != mine and not attempt_lives(path):
            with suppress(FileNotFoundError):
                path.rename(mine)


def _keep_replaced(attempt: Attempt) -> None:
    """Retire what a writer exchanged the new one for, if it died before it did so itself."""
    if 0 < _sealed_at(attempt.path) < _sealed_at(attempt.final):
        retired = _retired_name(attempt.final)
        make_folders(retired.parent)
        attempt.path.rename(retired)


def _sealed_at(folder: Path) -> int:
    """When a unit or artifact was sealed (ns); 0 for a folder that never was, or none."""
    times = [path.stat().st_mtime_ns for name in RESERVED_NAMES if (path := folder / name).exists()]
    return max(times, default=0)


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
    _keep_replaced(attempt)
    left = attempt.path.exists() and attempt.scratch.exists() and any(attempt.scratch.iterdir())
    if not left:
        shutil.rmtree(attempt.folder, ignore_errors=True)  # put in place, or nothing to go on from
        return
    free = attempt.folder.with_name(f"{attempt.final.name}.{RELEASED}.{time.time_ns()}")
    attempt.folder.rename(free)


def _entry(path: Path, name: str, rows: int | None, digests: FileDigests) -> FileEntry:
    """A file's entry; afterwards its bytes are on the device."""
    fsync_file(path)
    is_table = name.endswith(".parquet")
    counted = parquet_rows(path) if is_table else rows
    if rows is not None and counted != rows:
        raise CorruptShardError(f"{path}: has {counted} rows, expected {rows} as stated by its stage")
    digest = digests.read(path)
    return FileEntry(name, path.stat().st_size, digest, counted, rows_digest(path) if is_table else None)


def _drop_others(folder: Path, wanted: set[str]) -> None:
    """Remove what an attempt wrote but does not list."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in wanted:
            path.unlink()
