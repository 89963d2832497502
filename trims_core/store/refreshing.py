"""What `--refresh` means: not older than this run.

A run is known by its command (config, nodes, words of refresh). The moment it first began is kept in the
store until it has ended well, so the same command after a crash takes what it made again already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from trims_core.fingerprint import Json, sha256_json
from trims_core.store.durable import disk_errors, write_atomically

_FOLDER: Final = ".refreshing"


@contextmanager
def refreshing(root: Path, command: Sequence[Json], *, refresh: bool = True) -> Iterator[str | None]:
    """When this command first began (UTC, ISO 8601), over restarts; None where nothing is refreshed."""
    if not refresh:
        yield None
        return
    path = root / _FOLDER / f"{sha256_json(list(command))}.json"
    with disk_errors(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            now = datetime.now(UTC).isoformat(timespec="microseconds")
            write_atomically(path, json.dumps({"command": list(command), "began": now}).encode())
    began: str = json.loads(path.read_bytes())["began"]
    yield began
    path.unlink(missing_ok=True)
