"""Whether an artifact is what its manifest says; every problem is reported, not the first one.

Covered, on every open: a manifest that is absent, edited or of another artifact; files that are missing,
of another size or of other bytes; units that a refresh replaced. A file's bytes are hashed once per host and
remembered by inode, times and size. Covered with `deep`: all bytes hashed anew, rows read and counted,
schemas, ids unique, rejects and scores adding up, parents. Not covered: rot of a remembered file under
unchanged times, without `deep`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trims_core.errors import CorruptShardError, IncompleteArtifactError, SchemaError
from trims_core.fingerprint import FileDigests
from trims_core.store.artifact import RESERVED_NAMES, UNIT_NAME, Artifact, FileEntry, UnitRef, read_unit
from trims_core.store.rows import rows_digest

_ID_COLUMNS: Final = {"corpus": "id", "scores": "id", "rejects": "id", "buckets": "id"}
"""Ids that occur once in the whole artifact."""
_ID_COLUMNS_IN_FILE: Final = {"samples": "sample_id"}
"""Ids that occur once in each file."""
_SHOWN: Final = 5


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an artifact."""

    path: Path
    kind: str
    """manifest, unit, missing, size, rows, sha256, extra, schema, duplicate, counts or parent."""
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


def table_problems(artifact: Artifact, without: Collection[Path] = ()) -> Iterator[Problem]:
    """Schema drift, ids that occur twice, and scores that do not add up. Reads the id columns.

    Args:
        without: files known to be damaged, which are not opened.
    """
    from trims_core.schema import TABLES, check_schema, provenance

    rows: Counter[str] = Counter()
    seen: dict[str, Path] = {}
    for path in artifact.files(suffix=".parquet"):
        if path in without:
            continue
        try:
            table = TABLES.get(provenance(path).get("table", ""))
            if table is None:
                continue
            check_schema(path, _arrow_schema(path), table)
        except SchemaError as error:
            yield Problem(path, "schema", str(error))
            continue
        except (OSError, ValueError) as error:
            yield Problem(path, "schema", f"cannot be read: {error}")
            continue
        rows[table.name] += parquet_rows(path)
        if column := _ID_COLUMNS.get(table.name):
            yield from _duplicates(path, column, seen)
        if column := _ID_COLUMNS_IN_FILE.get(table.name):
            yield from _duplicates(path, column, {})
    counts = artifact.manifest.counts
    if artifact.manifest.stage == "scores" and "n_in" in counts and not without:
        total = rows["scores"] + rows["rejects"]
        if total != counts["n_in"]:
            text = f"{rows['scores']} scores + {rows['rejects']} rejects, expected {counts['n_in']} rows"
            yield Problem(artifact.path, "counts", text)


def _arrow_schema(path: Path) -> object:
    import pyarrow.parquet as pq

    return pq.read_schema(path)


def _duplicates(path: Path, column: str, seen: dict[str, Path]) -> Iterator[Problem]:
    """Ids of one file that occurred before; `seen` is updated."""
    import pyarrow.parquet as pq

    for value in pq.read_table(path, columns=[column])[column].to_pylist():
        if value in seen:
            yield Problem(path, "duplicate", f"id {value!r} occurs in {seen[value].name} already")
        seen.setdefault(value, path)
