"""Removing what no run needs any more; never a committed artifact unless one is named.

Covered: leftovers of dead writers, what refreshes replaced, units that no artifact lists. Such a unit may be
finished work of a run that was cut off, or is still under way: it is kept while a writer of its stage may
live and for some time after it was last found (finding it renews its folder's times).
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trims_core.errors import IncompleteArtifactError
from trims_core.store.artifact import ATTEMPTS_NAME, LOGS_NAME, RETIRED_NAME, read_manifest
from trims_core.store.attempts import RELEASED, attempt_lives, retire, touched
from trims_core.store.locking import LOCK_PREFIX, try_lock
from trims_core.store.old import is_old_version

logger = logging.getLogger(__name__)

_FINGERPRINT_LENGTH: Final = 64


@dataclass(frozen=True)
class Removed:
    """One folder that was removed, or would be."""

    path: Path
    size_bytes: int
    why: str


def clean_leftovers(
    folder: Path, staging: bool, retired: bool, older_than_s: float, dry_run: bool
) -> Iterator[Removed]:
    """Removes attempts of dead writers and what was put aside, of a stage's artifacts or units."""
    for path in _children(folder / ATTEMPTS_NAME) if staging else []:
        if attempt_lives(path) or time.time() - touched(path) < older_than_s:
            continue
        with suppress(FileNotFoundError):
            yield _remove(path, "its writer is dead", dry_run, _release)
    for path in _children(folder / RETIRED_NAME) if retired else []:
        if _since_named_s(path) >= older_than_s:
            yield _remove(path, "replaced by a refresh, or damaged", dry_run)
    for path in _children(folder / LOGS_NAME) if staging else []:
        made = (folder / path.name).exists() or any(folder.glob(f"{ATTEMPTS_NAME}/{path.name}.*"))
        if not made and time.time() - touched(path) >= older_than_s:
            yield _remove(path, "logs of what is not there", dry_run)


def clean_unlisted(folder: Path, stage: Path, older_than_s: float, dry_run: bool) -> Iterator[Removed]:
    """Removes units that nothing lists.

    Args:
        folder: holds the units. stage: holds the artifacts.
    """
    # the old ones are picked before the lists are read: what is listed later was found meanwhile and is young
    old = [path for path in _children(folder) if _is_old_unit(path, older_than_s)]
    attempts = [*_children(stage / ATTEMPTS_NAME), *_children(folder / ATTEMPTS_NAME)]
    if not old or any(attempt_lives(path) for path in attempts):
        return  # units of an artifact that is being made are not listed yet
    listed = _listed(stage)
    if listed is None:
        return
    for path in old:
        if path.name not in listed and _is_old_unit(path, older_than_s):
            yield _remove(path, "no artifact lists it", dry_run, retire)


def _listed(stage: Path) -> set[str] | None:
    """Fingerprints of the units of all artifacts, retired ones included; None where one does not tell."""
    listed: set[str] = set()
    committed = [path for path in _children(stage) if len(path.name) == _FINGERPRINT_LENGTH]
    for path in (*committed, *_children(stage / RETIRED_NAME)):
        try:
            listed.update(unit.fingerprint for unit in read_manifest(path).units)
        except IncompleteArtifactError as error:
            if not is_old_version(path):
                logger.warning("%s. The units of %s are kept: it may list some", error, stage.name)
                return None
    return listed


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
    """Removes a committed artifact."""
    return _remove(path, "named by you", dry_run, retire)


def _release(path: Path) -> Path:
    """Give an attempt a name that no new attempt takes over."""
    return path.rename(path.with_name(f"removed.{RELEASED}.{time.time_ns()}"))


def _remove(
    path: Path, why: str, dry_run: bool, aside: Callable[[Path], Path] = lambda path: path
) -> Removed:
    """Removes a folder: first its name, by `aside`, so that no reader or writer sees half of it."""
    size = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
    if not dry_run:
        shutil.rmtree(aside(path))
    return Removed(path, size, why)


def drop_locks(stage: Path, dry_run: bool) -> None:
    """Removes lock files nobody holds; a waiter on a removed file notices and takes a new one."""
    for path in [] if dry_run else stage.glob(f"{LOCK_PREFIX}*"):
        with try_lock(path) as free:
            if free:
                path.unlink(missing_ok=True)
