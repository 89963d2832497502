"""The teacher that was last told of, per run's name: `<store>/announced/<name>.json`.

Nightly re-scoring compares with this, not with what happens to lie in the store: somebody may have run the
pipeline first. It is written after everything that follows from a change, so a crash tells again, never not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from trims_core.store import ArtifactRef
from trims_core.store.durable import disk_errors, write_atomically


@dataclass(frozen=True)
class Announced:
    """A teacher's identity and what came of it."""

    identity: Mapping[str, str]
    """Name → digest, as in the keys of its scores."""
    corpus: ArtifactRef
    scores: ArtifactRef


def read_announced(store_root: Path, name: str) -> Announced | None:
    """What was told last; None before the first time."""
    try:
        return Announced(**json.loads(_path(store_root, name).read_bytes()))
    except FileNotFoundError:
        return None


def write_announced(store_root: Path, name: str, announced: Announced) -> None:
    """Remember what has been told."""
    path = _path(store_root, name)
    with disk_errors(store_root):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(announced), indent=1).encode())


def _path(store_root: Path, name: str) -> Path:
    return store_root / "announced" / f"{name}.json"
