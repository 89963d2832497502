"""Replacing a committed artifact by a new one so that neither a reader nor a crash finds none.

The new folder and the old one change places in one system call; the old one then gets its retired name.
Where the file system cannot exchange two names, the old one is renamed aside first, and the next writer puts
it back if the process died in between. A mark in the staging folder says how far a dead process came.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from trims_core._faults import fault_point
from trims_core.store.artifact import Artifact
from trims_core.store.durable import fsync_folder, write_atomically
from trims_core.store.verify import Problem

STAGING_PREFIX: Final = ".staging-"
RETIRED_PREFIX: Final = ".retired-"
LOCK_PREFIX: Final = ".lock-"
_MARK_NAME: Final = "retiring.json"
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_UNSUPPORTED: Final = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV)


def staging_folder(final: Path) -> Path:
    """Where an artifact is written before its commit."""
    return final.with_name(f"{STAGING_PREFIX}{final.name}")


def retired_folders(final: Path) -> list[Path]:
    """Artifacts that refreshes replaced under this name, oldest first."""
    found = final.parent.glob(f"{RETIRED_PREFIX}{final.name}-*")
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def retired_name(final: Path) -> Path:
    """A free name for putting an artifact aside."""
    numbers = [int(path.name.rpartition("-")[2]) for path in retired_folders(final)]
    return final.with_name(f"{RETIRED_PREFIX}{final.name}-{max(numbers, default=0) + 1}")


def inode(path: Path) -> int | None:
    """Which folder a name stands for now; None for no folder."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def replace(staging: Path, new: Path, final: Path, retired: Path) -> None:
    """Put `new` in the place of `final`, and what was there under the retired name."""
    mark = {"inode": inode(final), "retired": retired.name}
    write_atomically(staging / _MARK_NAME, json.dumps(mark).encode())
    fault_point("store.before_retire")
    if exchange(new, final):
        fault_point("store.before_set_aside")
        new.rename(retired)
    else:
        final.rename(retired)
        fault_point("store.before_replace")
        new.rename(final)
    (staging / _MARK_NAME).unlink()


def recover(staging: Path, new: Path, final: Path) -> None:
    """Finish or undo a replacement whose process died; the caller holds the lock."""
    path = staging / _MARK_NAME
    try:
        mark: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    retired = final.with_name(mark["retired"])
    if inode(new) == mark["inode"]:
        new.rename(retired)
    elif inode(final) is None and inode(retired) == mark["inode"]:
        retired.rename(final)
    path.unlink()
    fsync_folder(final.parent)


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


def place_problems(artifact: Artifact) -> Iterator[Problem]:
    """An artifact that lies under another name than its manifest's."""
    named = artifact.path.name.removeprefix(RETIRED_PREFIX)[:64]
    manifest = artifact.manifest
    if named != manifest.fingerprint or artifact.path.parent.name != manifest.stage:
        yield Problem(
            artifact.path,
            "manifest",
            f"holds the manifest of {manifest.stage}/{manifest.fingerprint[:12]}; it was renamed or copied",
        )
