"""What the store keeps: keys, units, manifests and opened artifacts.

A *unit* is the smallest piece of work whose result is kept: `<store>/units/<stage>/<fingerprint>/` with its
files and `unit.json`. An *artifact* is `<store>/<stage>/<fingerprint>/`: `manifest.json`, which lists units
and the files that span them, those files, and `card.md` for people. Readers take file names from the manifest
only, never from a folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, TypedDict

from trims_core.errors import IncompleteArtifactError
from trims_core.fingerprint import Json, canonical_json, sha256_json
from trims_core.schema import SCHEMA_VERSION

MANIFEST_VERSION: Final = 2
UNIT_VERSION: Final = 1
MANIFEST_NAME: Final = "manifest.json"
UNIT_NAME: Final = "unit.json"
UNITS_NAME: Final = "units"
ATTEMPTS_NAME: Final = ".attempts"
RETIRED_NAME: Final = ".retired"
LOGS_NAME: Final = ".logs"
CARD_NAME: Final = "card.md"
RESERVED_NAMES: Final = frozenset({MANIFEST_NAME, UNIT_NAME, CARD_NAME})
_NO_UNITS: Final = (
    "made by version 0.1, which knew no units; its files are readable, run again to make it anew"
)


@dataclass(frozen=True)
class UnitKey:
    """Everything a unit's result depends on."""

    stage: str
    version: int
    settings: Mapping[str, Json]
    """Of the stage's settings, those that matter for this unit."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name → digest of what it is made from: parents' units, outside inputs, facts that span the units."""
    schema_version: int = SCHEMA_VERSION

    @cached_property
    def fingerprint(self) -> str:
        """Hex sha256 over all fields; the name of the unit's folder."""
        return sha256_json(asdict_shallow(self))


@dataclass(frozen=True)
class StageKey:
    """Everything a stage's result depends on."""

    stage: str
    version: int
    config: Mapping[str, Json]
    """Result-changing settings."""
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
    """One file of a unit or artifact."""

    name: str
    """Relative to its folder, with `/`."""
    size_bytes: int
    sha256: str
    """Of the bytes, for verification."""
    rows: int | None = None
    """Rows of a table; None for other files."""
    digest: str | None = None
    """Of a table's rows, whatever the file's format; None for other files, whose bytes count."""
    aside: bool = False
    """Kept and verified, but no child depends on it: times, logs, cards."""

    @property
    def content(self) -> list[Json]:
        """What children depend on."""
        return [self.name, self.rows, self.digest or self.sha256]


def content_digest(entries: Iterator[FileEntry] | tuple[FileEntry, ...]) -> str:
    """Hex sha256 over names, rows and contents: equal rows and bytes, equal digest."""
    return sha256_json(sorted(entry.content for entry in entries if not entry.aside))


@dataclass(frozen=True)
class UnitRef:
    """A unit of an artifact, under the name it has there."""

    name: str
    """`scores-00003`: its place in this artifact; the same unit may stand elsewhere in another."""
    fingerprint: str
    files: tuple[FileEntry, ...]

    @cached_property
    def content_digest(self) -> str:
        """What units made from this one depend on."""
        return content_digest(self.files)


@dataclass(frozen=True)
class UnitRecord:
    """A finished unit, as its unit.json says."""

    path: Path
    key: UnitKey
    files: tuple[FileEntry, ...]
    notes: Mapping[str, Json]
    """What the stage noted about it: counts, seconds."""
    seconds: float
    made_at: str
    """UTC, ISO 8601."""
    versions: Mapping[str, str] = field(default_factory=dict)

    def ref(self, name: str) -> UnitRef:
        """This unit under a name."""
        return UnitRef(name, self.key.fingerprint, self.files)

    def file(self, name: str) -> Path:
        """Path of a listed file. Raises: IncompleteArtifactError for any other name."""
        if all(entry.name != name for entry in self.files):
            known = ", ".join(entry.name for entry in self.files)
            raise IncompleteArtifactError(f"{self.path}: {name!r} is not in its unit.json; it has: {known}")
        return self.path / name

    def to_json(self) -> bytes:
        """The file's bytes; they carry a digest of themselves, so that any edit shows."""
        body = {
            "unit_version": UNIT_VERSION,
            "key": asdict_shallow(self.key),
            "files": [asdict(entry) for entry in self.files],
            "notes": self.notes,
            "seconds": self.seconds,
            "made_at": self.made_at,
            "versions": self.versions,
        }
        return _signed(body)


def read_unit(folder: Path) -> UnitRecord:
    """The unit of a folder, checked against itself and the folder's name; its files are not looked at.

    Raises:
        IncompleteArtifactError: absent, unreadable, edited, of another format, or in the wrong folder.
    """
    path = folder / UNIT_NAME
    remedy = "The same command makes it again"
    body = _checked(path, _read_json(path, remedy), "unit_version", UNIT_VERSION, remedy)
    entries = tuple(FileEntry(**entry) for entry in body.pop("files"))
    unit = UnitRecord(folder, UnitKey(**body.pop("key")), entries, **body)
    if unit.key.fingerprint != folder.name:
        raise IncompleteArtifactError(f"{path}: belongs to unit {unit.key.fingerprint[:12]}; it was renamed")
    return unit


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

    is_old: ClassVar[bool] = False
    """Whether version 0.1 wrote it (`trims_core.store.old`)."""

    stage: str
    node: str
    version: int
    fingerprint: str
    units: tuple[UnitRef, ...] = ()
    files: tuple[FileEntry, ...] = ()
    """Files of the artifact's own folder, which span the units."""
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
        """Hex sha256 over all files' names, rows and contents, units' included."""
        return content_digest(tuple(named(name, entry) for name, entry in self.entries.items()))

    @cached_property
    def entries(self) -> Mapping[str, FileEntry]:
        """All files by name; a unit's are called `<unit>/<file>`."""
        own = {entry.name: entry for entry in self.files}
        return own | {f"{unit.name}/{entry.name}": entry for unit in self.units for entry in unit.files}

    def key(self) -> StageKey:
        """The key this artifact was made for."""
        parents = {role: parent["content_digest"] for role, parent in self.parents.items()}
        return StageKey(self.stage, self.version, self.config, parents, self.inputs, self.schema_version)

    def to_json(self) -> bytes:
        """The file's bytes; they carry a digest of themselves, so that any edit shows."""
        body = {**asdict_shallow(self), "files": [asdict(entry) for entry in self.files]}
        body["units"] = [asdict(unit) for unit in self.units]
        return _signed({**body, "manifest_version": MANIFEST_VERSION, "content_digest": self.content_digest})


def named(name: str, entry: FileEntry) -> FileEntry:
    """An entry under another name."""
    return replace(entry, name=name)


def asdict_shallow(value: Any) -> dict[str, Any]:
    """A dataclass's own fields, without descending into the values."""
    return {entry.name: getattr(value, entry.name) for entry in fields(value)}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact folder, checked against itself and the folder's name.

    Raises:
        IncompleteArtifactError: absent, unreadable, edited, of another format, or in the wrong folder.
    """
    from trims_core.store.old import is_old, old_manifest  # which builds on this module

    path = folder / MANIFEST_NAME
    remedy = f"Redo the stage with --refresh {folder.parent.name}"
    body = _read_json(path, remedy)
    if is_old(body):
        return old_manifest(path, body)
    body = _checked(path, body, "manifest_version", MANIFEST_VERSION, remedy)
    stated = body.pop("content_digest")
    entries = tuple(FileEntry(**entry) for entry in body.pop("files"))
    units = tuple(
        UnitRef(unit["name"], unit["fingerprint"], tuple(FileEntry(**entry) for entry in unit["files"]))
        for unit in body.pop("units")
    )
    manifest = Manifest(files=entries, units=units, **body)
    if stated != manifest.content_digest or manifest.fingerprint != manifest.key().fingerprint:
        raise IncompleteArtifactError(
            f"{path}: its file list, parents, inputs or config do not give its digests. {remedy}"
        )
    return manifest


def _signed(body: Mapping[str, Json]) -> bytes:
    body = {**body, "own_digest": sha256_json(body)}
    return json.dumps(json.loads(canonical_json(body)), indent=1, ensure_ascii=False).encode() + b"\n"


def _read_json(path: Path, remedy: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IncompleteArtifactError(f"{path}: cannot be read ({error}); expected JSON. {remedy}") from error


def _checked(path: Path, body: Any, version_name: str, version: int, remedy: str) -> dict[str, Any]:
    """The fields of a signed file, without version and signature."""
    if not isinstance(body, dict) or body.get(version_name) != version:
        found = body.get(version_name) if isinstance(body, dict) else type(body).__name__
        what = version_name.replace("_", " ")
        raise IncompleteArtifactError(f"{path}: {what} {found!r}; expected {version}. {remedy}")
    stored = body.pop("own_digest", None)
    if stored != sha256_json(body):
        raise IncompleteArtifactError(f"{path}: was edited or damaged (its own digest differs). {remedy}")
    del body[version_name]
    return body


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
        """Digest of its rows and bytes; what children depend on."""
        return self.manifest.content_digest

    @property
    def units(self) -> tuple[UnitRef, ...]:
        """Its units, in their order. Raises: IncompleteArtifactError: version 0.1 made it, which had none."""
        if self.manifest.is_old:
            raise IncompleteArtifactError(f"{self.path}: {_NO_UNITS}")
        return self.manifest.units

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
        if name not in self._paths:
            known = ", ".join(sorted(self._paths)[:8])
            raise IncompleteArtifactError(f"{self.path}: {name!r} is not in the manifest; it has: {known}")
        return self._paths[name]

    def files(self, prefix: str = "", suffix: str = "") -> list[Path]:
        """Paths of the files whose names start and end so: the units' in their order, then its own."""
        return [
            path for name, path in self._paths.items() if name.startswith(prefix) and name.endswith(suffix)
        ]

    def rows(self, prefix: str = "", suffix: str = "") -> int:
        """Rows of all tables whose names start and end so."""
        entries = self.manifest.entries.items()
        return sum(e.rows or 0 for name, e in entries if name.startswith(prefix) and name.endswith(suffix))

    @property
    def stage_folder(self) -> Path:
        """Where artifacts of its stage lie: this one, or one that was put aside."""
        return self.path.parent if self.path.parent.name != RETIRED_NAME else self.path.parent.parent

    def unit_folder(self, unit: UnitRef) -> Path:
        """Where a unit's files lie."""
        return unit_folder(self.stage_folder.parent, self.manifest.stage, unit.fingerprint)

    @cached_property
    def _paths(self) -> Mapping[str, Path]:
        of_units = {
            f"{unit.name}/{entry.name}": self.unit_folder(unit) / entry.name
            for unit in self.manifest.units
            for entry in unit.files
        }
        return of_units | {entry.name: self.path / entry.name for entry in self.manifest.files}


def utc_now() -> str:
    """This moment, ISO 8601 in UTC with microseconds: such texts sort as the moments do."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def unit_folder(root: Path, stage: str, fingerprint: str) -> Path:
    """`<store>/units/<stage>/<fingerprint>`."""
    return root / UNITS_NAME / stage / fingerprint
