"""Removing what no run needs any more; never a committed artifact unless one is named."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trims_core.store.locking import lock_path, try_lock, writer_lives
from trims_core.store.swap import LOCK_PREFIX, RETIRED_PREFIX, STAGING_PREFIX, retired_name

_FINGERPRINT_LENGTH: Final = 64


@dataclass(frozen=True)
class Removed:
    """One folder that was removed, or would be."""

    path: Path
    size_bytes: int
    why: str


def clean_stage(
    folder: Path, staging: bool, retired: bool, older_than_s: float, dry_run: bool
) -> Iterator[Removed]:
    """Removes a stage's leftovers and gives each back once it is gone."""
    for path in sorted(folder.iterdir()):
        kind, fingerprint = _parse(path.name)
        wanted = (kind == STAGING_PREFIX and staging) or (kind == RETIRED_PREFIX and retired)
        if not wanted or _age_s(path) < older_than_s:
            continue
        with try_lock(lock_path(folder, fingerprint)) as free:
            if not free or (kind == STAGING_PREFIX and writer_lives(path)):
                continue
            why = "its writer is dead" if kind == STAGING_PREFIX else "replaced by a refresh"
            yield _remove(path, why, dry_run)
    for path in [] if dry_run else sorted(folder.iterdir()):
        if path.name.startswith(LOCK_PREFIX):
            _drop_lock(path)


def remove_artifact(path: Path, dry_run: bool) -> Removed:
    """Removes a committed artifact: first its name, then its bytes, so that no reader sees half of it."""
    if dry_run:
        return _remove(path, "named by you", dry_run)
    aside = path.rename(retired_name(path))
    return _remove(aside, "named by you", dry_run)


def _parse(name: str) -> tuple[str | None, str]:
    for prefix in (STAGING_PREFIX, RETIRED_PREFIX):
        if name.startswith(prefix):
            return prefix, name.removeprefix(prefix)[:_FINGERPRINT_LENGTH]
    return None, ""


def _age_s(path: Path) -> float:
    """Seconds since the folder or its journal was touched last; a rename touches the folder's ctime."""
    times = [path.stat().st_ctime, *(child.stat().st_mtime for child in path.iterdir())]
    return time.time() - max(times)


def _remove(path: Path, why: str, dry_run: bool) -> Removed:
    size = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
    if not dry_run:
        shutil.rmtree(path)
    return Removed(path, size, why)


def _drop_lock(path: Path) -> None:
    """Removes a lock file nobody holds; a waiter on the removed file notices and takes a new one."""
    with try_lock(path) as free:
        if free:
            path.unlink(missing_ok=True)
