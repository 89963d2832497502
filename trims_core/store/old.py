"""Artifacts of version 0.1: a whole stage in one folder, its files under their own names, no units.

They are listed, verified, opened and read like others. No run takes one for its own (`Store.find`), and who
asks for units is told in one line that there are none (`Artifact.units`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

from trims_core.errors import IncompleteArtifactError
from trims_core.fingerprint import Json, sha256_json
from trims_core.store.artifact import MANIFEST_NAME, FileEntry, Manifest

_VERSION: Final = 1
_ENTRY: Final = ("name", "size_bytes", "sha256", "rows")
"""What version 0.1 said of a file."""


@dataclass(frozen=True)
class OldManifest(Manifest):
    """A manifest of version 0.1."""

    is_old: ClassVar[bool] = True

    @cached_property
    def content_digest(self) -> str:
        """As version 0.1 took it, over what it said of its files: the manifests of its children hold this."""
        entries = sorted(self.files, key=lambda entry: entry.name)
        return sha256_json([{name: getattr(entry, name) for name in _ENTRY} for entry in entries])


def is_old(body: Json) -> bool:
    """Whether a manifest's JSON is of version 0.1."""
    return isinstance(body, dict) and body.get("manifest_version") == _VERSION


def is_old_version(folder: Path) -> bool:
    """Whether version 0.1 made an artifact, whole or not."""
    try:
        return is_old(json.loads((folder / MANIFEST_NAME).read_bytes()))
    except (OSError, ValueError):
        return False


def old_manifest(path: Path, body: Mapping[str, Any]) -> OldManifest:
    """The manifest, checked against itself.

    Args:
        body: its JSON, of version 0.1.
    Raises:
        IncompleteArtifactError: it was edited.
    """
    signed = {name: value for name, value in body.items() if name != "manifest_digest"}
    said = {
        name: value for name, value in signed.items() if name not in ("manifest_version", "content_digest")
    }
    try:
        files = tuple(FileEntry(**entry) for entry in said.pop("files"))
        manifest = OldManifest(files=files, **said)
        whole = (
            body["manifest_digest"] == sha256_json(signed)
            and body["content_digest"] == manifest.content_digest
            and manifest.fingerprint == manifest.key().fingerprint
        )
    except (KeyError, TypeError):
        whole = False
    if not whole:
        name = f"{path.parent.parent.name}/{path.parent.name[:12]}"
        raise IncompleteArtifactError(
            f"{path}: made by version 0.1, and edited or damaged since (its digests differ). Restore it, or"
            f" remove it with `trims clean --artifact {name}`"
        )
    return manifest
