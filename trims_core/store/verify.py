"""Whether an artifact is what its manifest says; every problem is reported, not the first one.

Covered, on every open: a manifest that is absent, edited or of another artifact; files that are missing,
of another size or of other bytes; units that a refresh replaced. A file's bytes are hashed once per host and
remembered by inode, times and size. Covered with `deep`: all bytes hashed anew, rows read and digested,
parents. Not covered: rot of a remembered file under unchanged times, without `deep`; what tables say
(`trims_core.inspection`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trims_core.errors import CorruptShardError, IncompleteArtifactError
from trims_core.fingerprint import FileDigests
from trims_core.store.artifact import RESERVED_NAMES, UNIT_NAME, Artifact, FileEntry, UnitRef, read_unit
from trims_core.store.rows import rows_digest

_SHOWN: Final = 5


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an artifact."""

    path: Path
    kind: str
    """manifest, unit, missing, size, rows, sha256, extra, parent, schema, duplicate or counts."""
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def parquet_rows(path: Path) -> int:
    """Rows a Parquet file's footer states. Raises: CorruptShardError where there is no readable footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise CorruptShardError(f"{path}: not a readable Parquet file ({error})") from error


def place_problems(artifact: Artifact) -> Iterator[Problem]:
    """An artifact that lies under another name than its manifest's."""
    manifest = artifact.manifest
    place = (artifact.stage_folder.name, artifact.path.name.partition(".")[0])
    if place != (manifest.stage, manifest.fingerprint):
        text = f"holds the manifest of {manifest.stage}/{manifest.fingerprint[:12]}; it was renamed or copied"
        yield Problem(artifact.path, "manifest", text)


def file_problems(artifact: Artifact, digests: FileDigests, rehash: bool = False) -> Iterator[Problem]:
    """What is wrong with the listed files.

    Args:
        rehash: read every byte, whatever is remembered.
    """
    for name, entry in artifact.manifest.entries.items():
        yield from entry_problems(artifact.file(name), entry, digests, rehash)


def entry_problems(path: Path, entry: FileEntry, digests: FileDigests, rehash: bool) -> Iterator[Problem]:
    """What is wrong with one file."""
    try:
        stat = path.stat()
    except OSError as error:
        yield Problem(path, "missing", f"listed in the manifest but not there ({error.strerror})")
        return
    if stat.st_size != entry.size_bytes:
        yield Problem(path, "size", f"{stat.st_size} bytes, expected {entry.size_bytes}")
        return
    remembered = None if rehash else digests.recall(stat)
    if remembered is None and entry.rows is not None and path.suffix == ".parquet":
        try:
            rows = parquet_rows(path)
        except CorruptShardError as error:
            yield Problem(path, "rows", f"expected {entry.rows} rows; {error}")
            rows = entry.rows
        if rows != entry.rows:
            yield Problem(path, "rows", f"{rows} rows, expected {entry.rows}")
    found = remembered or digests.read(path)
    if found != entry.sha256:
        yield Problem(path, "sha256", f"sha256 {found[:16]}…, expected {entry.sha256[:16]}…")
    elif rehash and entry.digest is not None and rows_digest(path) != entry.digest:
        yield Problem(path, "rows", f"its rows do not give the digest {entry.digest[:16]}…")


def check(artifact: Artifact, digests: FileDigests) -> None:
    """Raises IncompleteArtifactError or CorruptShardError, naming the damaged files, unless all are whole."""
    problems = list(file_problems(artifact, digests))
    if not problems:
        return
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
    more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    stage = artifact.manifest.stage
    text = (
        f"{stage}/{artifact.path.name[:12]}: {len(problems)} damaged file(s):\n{shown}{more}\n"
        f"Restore them, or make the artifact again with --refresh {stage}"
    )
    missing = all(problem.kind == "missing" for problem in problems)
    raise IncompleteArtifactError(text) if missing else CorruptShardError(text)


def unit_problems(artifact: Artifact) -> Iterator[Problem]:
    """Units whose unit.json is damaged, or says other content than the artifact was made of."""
    for unit in artifact.manifest.units:
        folder = artifact.unit_folder(unit)
        if not folder.is_dir():
            continue  # its files are missing, each by name
        try:
            found = read_unit(folder).ref(unit.name)
        except IncompleteArtifactError as error:
            yield Problem(folder / UNIT_NAME, "unit", str(error))
            continue
        if is_superseded(unit, found):
            stage = artifact.manifest.stage
            text = f"{unit.name} was refreshed with other content since; run {stage} again to list it anew"
            yield Problem(folder, "unit", text)


def is_superseded(listed: UnitRef, found: UnitRef) -> bool:
    """Whether the unit that is there has other content than the one an artifact lists."""
    return found.files != listed.files and found.content_digest != listed.content_digest


def extra_problems(artifact: Artifact) -> Iterator[Problem]:
    """Files in the folders of an artifact and its units that are not listed; readers never see them."""
    folders = {artifact.path: [entry.name for entry in artifact.manifest.files]}
    for unit in artifact.manifest.units:
        folders[artifact.unit_folder(unit)] = [entry.name for entry in unit.files]
    for folder, names in folders.items():
        listed = {folder / name for name in (*names, *RESERVED_NAMES)}
        for path in sorted(folder.rglob("*")):
            if path not in listed and (path.is_symlink() or not path.is_dir()):
                yield Problem(path, "extra", "not listed in the manifest; remove it")
