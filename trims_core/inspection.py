"""What an artifact's tables say, beside their bytes: schemas, ids that occur once, counts that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from trims_core.errors import SchemaError
from trims_core.schema import TABLES, check_schema, provenance
from trims_core.store import Artifact, Problem


def table_problems(artifact: Artifact, without: Collection[Path] = ()) -> Iterator[Problem]:
    """Schema drift, ids that occur twice, and scores that do not add up. Reads the id columns.

    Args:
        without: files known to be damaged, which are not opened.
    """
    rows: Counter[str] = Counter()
    seen: dict[str, Path] = {}
    for path in artifact.files(suffix=".parquet"):
        if path in without:
            continue
        try:
            table = TABLES.get(provenance(path).get("table", ""))
            if table is None:
                continue
            check_schema(path, pq.read_schema(path), table)
        except SchemaError as error:
            yield Problem(path, "schema", str(error))
            continue
        except (OSError, ValueError) as error:
            yield Problem(path, "schema", f"cannot be read: {error}")
            continue
        rows[table.name] += pq.read_metadata(path).num_rows
        if table.unique:
            yield from _duplicates(path, table.unique, {} if table.unique_in == "file" else seen)
    counts = artifact.manifest.counts
    if artifact.manifest.stage == "scores" and "n_in" in counts and not without:
        total = rows["scores"] + rows["rejects"]
        if total != counts["n_in"]:
            text = f"{rows['scores']} scores + {rows['rejects']} rejects, expected {counts['n_in']} rows"
            yield Problem(artifact.path, "counts", text)


def _duplicates(path: Path, column: str, seen: dict[str, Path]) -> Iterator[Problem]:
    """Ids of one file that occurred before; `seen` is updated."""
    for value in pq.read_table(path, columns=[column])[column].to_pylist():
        if value in seen:
            yield Problem(path, "duplicate", f"id {value!r} occurs in {seen[value].name} already")
        seen.setdefault(value, path)
