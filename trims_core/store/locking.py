"""Waiting for another process that makes the same artifact, and who lives.

The lock is the kernel's (flock): a writer that dies frees it at once. It saves work and guards nothing:
attempts are safe without it, so a file system that has no flock, or keeps it to one host, costs at most the
same work twice.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

LOCK_PREFIX: Final = ".lock-"
_NO_LOCKS: Final = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_POLL_S: Final = 0.05
_TELL_EVERY_S: Final = 5.0


def lock_path(stage_folder: Path, fingerprint: str) -> Path:
    """Where the lock of one fingerprint lies."""
    return stage_folder / f"{LOCK_PREFIX}{fingerprint}"


@contextmanager
def write_lock(path: Path, about: str) -> Iterator[None]:
    """Holds the lock during the block; waits for a living holder, telling so every few seconds."""
    lock = _file_lock(path)
    waiting = False
    while True:
        try:
            lock.acquire(timeout=_TELL_EVERY_S if waiting else 0, poll_interval=_POLL_S)
            break
        except Timeout:
            waiting = True
            logger.info("%s is being made by another process; waiting for it", about)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logger.info("%s: this file system has no locks; other processes may do the same work", about)
            break
    try:
        yield
    finally:
        lock.release()


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """True during the block if nobody holds the lock, else False; never waits."""
    lock = _file_lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _file_lock(path: Path) -> FileLock:
    return FileLock(path, thread_local=False, fallback_to_soft=False, preserve_lock_file=True)


def process_start(task: int) -> int | None:
    """When a process or thread started, in ticks since boot: tells a reused number apart. None: gone."""
    try:
        text = Path(f"/proc/{task}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])
