"""Writes that survive a crash, and what the operating system's refusals mean.

Covered: process crashes at any instruction, power loss on file systems that honour fsync.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from trims_core.errors import DiskFullError, StoreError

_NO_SPACE: Final = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_NOT_ALLOWED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
_WRAPPED: Final = re.compile(r"\b(?:os error|errno)\s+(\d+)", re.IGNORECASE)


def fsync_file(path: Path) -> None:
    """Flush a file's bytes to the device."""
    _fsync(path, os.O_RDONLY)


def fsync_folder(path: Path) -> None:
    """Flush a folder's entries (names of created, renamed and removed files) to the device."""
    _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def make_folders(path: Path) -> None:
    """Make a folder and those above it that are missing, and flush their names to the device."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        fsync_folder(folder.parent)


def fsync_tree(folder: Path) -> None:
    """Flush the names of all files below a folder, innermost first, and the folder's own."""
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        fsync_folder(path)
    fsync_folder(folder)
    fsync_folder(folder.parent)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's content so that a reader or a crash sees the old or the new bytes, never a mix."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turns refusals of the disk inside the block into DiskFullError or StoreError.

    Libraries wrap the system's error in classes of their own (Polars' ComputeError) that keep only its
    number in the text; those are recognised too. Everything else passes unchanged.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        number = _system_error(error)
        if number in _NO_SPACE:
            raise DiskFullError(_no_space_message(place, error)) from error
        if number in _NOT_ALLOWED and _concerns(error, place):
            raise StoreError(
                f"{place}: not allowed to write here ({error}); expected a writable store."
                " Correct the permissions or set `store` (TRIMS_STORE) to another folder"
            ) from error
        raise


def _system_error(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if found := _WRAPPED.search(str(error)):
        return int(found.group(1))
    return None


def _concerns(error: BaseException, place: Path) -> bool:
    """Whether the refusal is about the store, not about something else the block touches."""
    return str(place) in f"{getattr(error, 'filename', '')} {error}"


def _no_space_message(place: Path, error: BaseException) -> str:
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    free_mib = shutil.disk_usage(existing).free / 2**20
    return (
        f"{place}: no room to write ({error}); {free_mib:,.0f} MiB are free there and a file size limit may"
        " apply. Free some space (`trims clean --staging` removes leftovers), then run the same command:"
        " finished parts are kept"
    )
