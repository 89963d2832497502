"""Removing what no run needs any more; never a committed artifact unless one is named.

Covered: leftovers of dead writers, what refreshes replaced, units that no artifact lists. Such a unit may be
finished work of a run that was cut off, or is still under way: it is kept while a writer of its stage may
live and for some time after it was last found (finding it renews its folder's times).
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trims_core.errors import IncompleteArtifactError
from trims_core.store.artifact import read_manifest
from trims_core.store.locking import lock_path, try_lock, writer_lives
from trims_core.store.old import is_old_version
from trims_core.store.swap import LOCK_PREFIX, RETIRED_PREFIX, STAGING_PREFIX, retired_name
from trims_core.store.units import ATTEMPTS_NAME, RELEASED, RETIRED_NAME, attempt_lives, touched

logger = logging.getLogger(__name__)

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


def clean_units(
    folder: Path, stage: Path, staging: bool, retired: bool, units: bool, older_than_s: float, dry_run: bool
) -> Iterator[Removed]:
    """Removes leftovers among a stage's units, and units that nothing lists.

    Args:
        folder: holds the units. stage: holds the artifacts.
    """
    if staging:
        yield from _clean_attempts(folder / ATTEMPTS_NAME, older_than_s, dry_run)
    for path in _children(folder / RETIRED_NAME) if retired else []:
        if _since_named_s(path) >= older_than_s:
            yield _remove(path, "replaced by a refresh, or damaged", dry_run)
    # the old ones are picked before the lists are read: what is listed later was found meanwhile and is young
    old = [path for path in _children(folder) if _is_old_unit(path, older_than_s)] if units else []
    if not old or _writers_may_live(stage, folder, older_than_s):
        return
    listed = _listed(stage)
    if listed is None:
        return
    for path in old:
        if path.name not in listed and _is_old_unit(path, older_than_s):
            yield _remove_unit(path, dry_run)


def _clean_attempts(folder: Path, older_than_s: float, dry_run: bool) -> Iterator[Removed]:
    for path in _children(folder):
        if attempt_lives(path.name, path) or time.time() - touched(path) < older_than_s:
            continue
        aside = path.with_name(f"removed.{RELEASED}.{time.time_ns()}")  # no new attempt takes this one over
        with suppress(FileNotFoundError):
            yield _remove(path if dry_run else path.rename(aside), "its writer is dead", dry_run)


def _remove_unit(path: Path, dry_run: bool) -> Removed:
    """Removes a unit: first its name, then its bytes."""
    aside = path.with_name(RETIRED_NAME) / f"{path.name}.{time.time_ns()}"
    if not dry_run:
        aside.parent.mkdir(exist_ok=True)
        path = path.rename(aside)
    return _remove(path, "no artifact lists it", dry_run)


def _listed(stage: Path) -> set[str] | None:
    """Fingerprints of the units of all artifacts, retired ones included; None where one does not tell."""
    listed: set[str] = set()
    for path in _children(stage):
        if len(path.name) != _FINGERPRINT_LENGTH and not path.name.startswith(RETIRED_PREFIX):
            continue
        try:
            listed.update(unit.fingerprint for unit in read_manifest(path).units)
        except IncompleteArtifactError as error:
            if not is_old_version(path):
                logger.warning("%s. The units of %s are kept: it may list some", error, stage.name)
                return None
    return listed


def _writers_may_live(stage: Path, units: Path, older_than_s: float) -> bool:
    """Whether an artifact of a stage may be in the making now: its units are not listed yet."""
    for path in _children(stage):
        kind, fingerprint = _parse(path.name)
        if kind != STAGING_PREFIX:
            continue
        with try_lock(lock_path(stage, fingerprint)) as free:
            lives = writer_lives(path)
            if not free or lives or (lives is None and _since_named_s(units) < older_than_s):
                return True
    return any(attempt_lives(path.name, path) for path in _children(units / ATTEMPTS_NAME))


def bytes_below(folder: Path, seen: set[int]) -> int:
    """Bytes of all files below a folder, but for those whose inode was counted before."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            stat = path.lstat()
            if not path.is_dir() and stat.st_ino not in seen:
                seen.add(stat.st_ino)
                total += stat.st_size
    return total


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_old_unit(path: Path, older_than_s: float) -> bool:
    return len(path.name) == _FINGERPRINT_LENGTH and path.is_dir() and _since_named_s(path) >= older_than_s


def _since_named_s(path: Path) -> float:
    """Seconds since a folder was renamed, filled or marked as found."""
    return time.time() - path.stat().st_ctime


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
    """Seconds since the folder or what lies in it was touched last; a rename touches the folder's ctime."""
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
