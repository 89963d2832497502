"""What the store keeps: keys, manifests and opened artifacts.

An artifact is a folder `<store>/<stage>/<fingerprint>/`: data files, `manifest.json` with the list of them,
and `card.md` for people. Readers take file names from the manifest only, never from the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypedDict

from trims_core.errors import IncompleteArtifactError
from trims_core.fingerprint import Json, canonical_json, sha256_json
from trims_core.schema import SCHEMA_VERSION

MANIFEST_VERSION: Final = 1
MANIFEST_NAME: Final = "manifest.json"
CARD_NAME: Final = "card.md"
RESERVED_NAMES: Final = frozenset({MANIFEST_NAME, CARD_NAME})


@dataclass(frozen=True)
class StageKey:
    """Everything a stage's result depends on."""

    stage: str
    version: int
    config: Mapping[str, Json]
    """Result-changing config fields."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """Role → content digest of the parent artifact."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name → digest of an outside input (file, tokenizer, checkpoint, teacher)."""
    schema_version: int = SCHEMA_VERSION

    @cached_property
    def fingerprint(self) -> str:
        """Hex sha256 over all fields; the name of the artifact's folder."""
        return sha256_json(asdict_shallow(self))


@dataclass(frozen=True)
class FileEntry:
    """One data file of an artifact."""

    name: str
    """Relative, with `/`."""
    size_bytes: int
    sha256: str
    rows: int | None = None
    """Rows of a table; None for other files."""


class ParentRef(TypedDict):
    """Which artifact played a role in making another one."""

    stage: str
    fingerprint: str
    content_digest: str


class ArtifactRef(TypedDict):
    """A JSON-able pointer to an artifact, for orchestrators."""

    stage: str
    fingerprint: str
    content_digest: str
    path: str


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says."""

    stage: str
    node: str
    version: int
    fingerprint: str
    files: tuple[FileEntry, ...]
    config: Mapping[str, Json] = field(default_factory=dict)
    full_config: Mapping[str, Json] = field(default_factory=dict)
    parents: Mapping[str, ParentRef] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    info: Mapping[str, Json] = field(default_factory=dict)
    seconds: float = 0.0
    created_at: str = ""
    """UTC, ISO 8601."""
    schema_version: int = SCHEMA_VERSION

    @cached_property
    def content_digest(self) -> str:
        """Hex sha256 over names, sizes, rows and sha256 of the data files: equal bytes, equal digest."""
        return sha256_json([asdict(entry) for entry in sorted(self.files, key=lambda entry: entry.name)])

    @cached_property
    def entries(self) -> Mapping[str, FileEntry]:
        """Data files by name."""
        return {entry.name: entry for entry in self.files}

    def key(self) -> StageKey:
        """The key this artifact was made for."""
        parents = {role: parent["content_digest"] for role, parent in self.parents.items()}
        return StageKey(self.stage, self.version, self.config, parents, self.inputs, self.schema_version)

    def to_json(self) -> bytes:
        """The file's bytes; they carry a digest of themselves, so that any edit shows."""
        body = {**asdict_shallow(self), "files": [asdict(entry) for entry in self.files]}
        body |= {"manifest_version": MANIFEST_VERSION, "content_digest": self.content_digest}
        body["manifest_digest"] = sha256_json(body)
        return json.dumps(json.loads(canonical_json(body)), indent=1, ensure_ascii=False).encode() + b"\n"


def asdict_shallow(value: Any) -> dict[str, Any]:
    """A dataclass's own fields, without descending into the values."""
    return {entry.name: getattr(value, entry.name) for entry in fields(value)}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact folder, checked against itself and the folder's name.

    Raises:
        IncompleteArtifactError: absent, unreadable, edited, of another format, or in the wrong folder.
    """
    path = folder / MANIFEST_NAME
    remedy = f"Redo the stage with --refresh {folder.parent.name}"
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IncompleteArtifactError(f"{path}: cannot be read ({error}); expected JSON. {remedy}") from error
    if not isinstance(body, dict) or body.get("manifest_version") != MANIFEST_VERSION:
        found = body.get("manifest_version") if isinstance(body, dict) else type(body).__name__
        raise IncompleteArtifactError(
            f"{path}: manifest version {found!r}; expected {MANIFEST_VERSION}. {remedy}"
        )
    stored = body.pop("manifest_digest", None)
    if stored != sha256_json(body):
        raise IncompleteArtifactError(f"{path}: was edited or damaged (its own digest differs). {remedy}")
    body.pop("manifest_version")
    content_digest = body.pop("content_digest")
    entries = tuple(FileEntry(**entry) for entry in body.pop("files"))
    manifest = Manifest(files=entries, **body)
    if content_digest != manifest.content_digest or manifest.fingerprint != manifest.key().fingerprint:
        raise IncompleteArtifactError(
            f"{path}: its file list, parents, inputs or config do not give its digests. {remedy}"
        )
    return manifest


@dataclass(frozen=True)
class Artifact:
    """A committed artifact, opened."""

    path: Path
    manifest: Manifest

    @property
    def info(self) -> Mapping[str, Json]:
        """What the stage said about itself."""
        return self.manifest.info

    @property
    def fingerprint(self) -> str:
        """Name of its folder."""
        return self.manifest.fingerprint

    @property
    def content_digest(self) -> str:
        """Digest of its bytes; what children depend on."""
        return self.manifest.content_digest

    def ref(self) -> ArtifactRef:
        """A JSON-able pointer."""
        return ArtifactRef(
            stage=self.manifest.stage,
            fingerprint=self.fingerprint,
            content_digest=self.content_digest,
            path=str(self.path),
        )

    def parent_ref(self) -> ParentRef:
        """What a child's manifest keeps of this artifact."""
        return ParentRef(
            stage=self.manifest.stage, fingerprint=self.fingerprint, content_digest=self.content_digest
        )

    def file(self, name: str) -> Path:
        """Path of a file of the manifest. Raises: IncompleteArtifactError for any other name."""
        if name not in self.manifest.entries:
            known = ", ".join(sorted(self.manifest.entries)[:8])
            raise IncompleteArtifactError(f"{self.path}: {name!r} is not in the manifest; it has: {known}")
        return self.path / name

    def files(self, prefix: str = "", suffix: str = "") -> list[Path]:
        """Paths of the manifest's files whose names start and end so, sorted by name."""
        return [
            self.path / name
            for name in sorted(self.manifest.entries)
            if name.startswith(prefix) and name.endswith(suffix)
        ]

    def rows(self, prefix: str = "") -> int:
        """Rows of all tables whose names start so."""
        return sum(entry.rows or 0 for entry in self.manifest.files if entry.name.startswith(prefix))
