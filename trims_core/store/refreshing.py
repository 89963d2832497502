"""What `--refresh` means: not older than this run.

A run is known by its command (config, nodes, words of refresh). The moment it first began is kept in the
store until it has ended well, so the same command after a crash takes what it made again already. Not
covered: clocks of several hosts that differ by more than the time between two units.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from trims_core.fingerprint import Json, sha256_json
from trims_core.store.artifact import utc_now
from trims_core.store.durable import disk_errors, write_atomically

logger = logging.getLogger(__name__)

_FOLDER: Final = ".refreshing"


@contextmanager
def refreshing(root: Path, command: Sequence[Json], *, refresh: bool = True) -> Iterator[str | None]:
    """When this command first began (UTC, ISO 8601), over restarts; None where nothing is refreshed.

    A good end forgets it, also that of the same command without `refresh`: the next refresh starts anew.
    """
    path = root / _FOLDER / f"{sha256_json(list(command))}.json"
    began = _began(path)
    if not refresh:
        began = None
    elif began is None:
        began = utc_now()
        with disk_errors(root):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({"command": list(command), "began": began}).encode())
    else:
        logger.info("refresh: goes on with the one that began %s; what it made again is kept", began)
    yield began
    if path.exists():
        with disk_errors(root):
            path.unlink(missing_ok=True)


def _began(path: Path) -> str | None:
    """What a run of this command noted that has not ended well."""
    try:
        found = json.loads(path.read_bytes())["began"]
        return datetime.fromisoformat(found).astimezone(UTC).isoformat(timespec="microseconds")
    except (OSError, ValueError, KeyError, TypeError):
        return None
