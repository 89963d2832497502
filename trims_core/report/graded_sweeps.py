"""Sweeps of version 0.1, which graded what they decoded, as the report reads today's: such a sweep is its own
grades.

A cell was one file, `cells/<task>-t<threshold>[-<cache>].parquet`, with the verdict beside each sample.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from trims_core.schema import GRADED_SAMPLES, GRADES, Table, provenance, read_table

if TYPE_CHECKING:
    from trims_core.store import Artifact


def summaries_of(sweep: Artifact) -> list[dict[str, Any]]:
    """Its cells.json as the grades' of today: `units` names the one file of a cell."""
    rows: list[dict[str, Any]] = json.loads(sweep.file("cells.json").read_text(encoding="utf-8"))
    return [
        {
            **row,
            "batch_sizes": [row["batch_size"]],
            "workers": [row["workers"]],
            "units": [f"cells/{_name(row)}.parquet"],
        }
        for row in rows
    ]


def _name(row: dict[str, Any]) -> str:
    point = "one" if row["threshold"] is None else format(row["threshold"], ".10g")
    name = f"{row['task']}-t{point}"
    return name if row["cache"] == "none" else f"{name}-{row['cache']}"


def read_rows(path: Path, table: Table) -> pa.Table:
    """Like `read_table`; the grades of a file of graded samples are what it says of its samples."""
    if table is not GRADES or provenance(path).get("table") != GRADED_SAMPLES.name:
        return read_table(path, table)
    rows = read_table(path, GRADED_SAMPLES)
    n = rows.num_rows
    return pa.table(
        {
            "sample_id": rows["sample_id"],
            "grader": pa.nulls(n, pa.string()),
            "verdict": pc.if_else(rows["correct"], "right", "wrong"),
            "extracted": rows["answer"],
            "gold": rows["gold"],
        },
        schema=GRADES.schema,
    )
