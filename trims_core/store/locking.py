"""One writer at a time per fingerprint, and who it is.

The lock is the kernel's (flock): a writer that dies frees it at once. Covered: processes and threads of one
host, and hosts whose shared file system passes flock on. Not covered: file systems without flock, where
taking the lock is refused rather than pretended.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from trims_core.errors import StoreError
from trims_core.store.durable import write_atomically

logger = logging.getLogger(__name__)

WRITER_NAME: Final = "writer.json"
_POLL_S: Final = 0.05
_TELL_EVERY_S: Final = 5.0


def lock_path(stage_folder: Path, fingerprint: str) -> Path:
    """Where the lock of one fingerprint lies."""
    return stage_folder / f".lock-{fingerprint}"


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
            if error.errno != errno.ENOSYS:
                raise
            raise StoreError(
                f"{path}: this file system has no locks; set `store` to a local folder"
            ) from error
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


def sign(folder: Path) -> None:
    """Note this process as the writer of a staging folder."""
    about = {"pid": os.getpid(), "started": process_start(os.getpid()), "host": socket.gethostname()}
    write_atomically(folder / WRITER_NAME, json.dumps(about).encode())


def writer_lives(folder: Path) -> bool | None:
    """Whether the process that signed a staging folder still runs; None where that cannot be known here."""
    try:
        about: dict[str, Any] = json.loads((folder / WRITER_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    if about.get("host") != socket.gethostname():
        return None
    started = process_start(int(about["pid"]))
    return started is not None and started == about.get("started")


def process_start(pid: int) -> int | None:
    """Start of a process in clock ticks since boot, which tells a reused pid apart; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])
