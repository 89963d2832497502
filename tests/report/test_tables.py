"""Every table is there as CSV with the cells of table.md."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from trims_core.report.analysis_tables import changed_problems
from trims_core.report.tables import decoding_text, run_tables, task_tables, write_tables
from trims_core.report.text_table import TextTable


def test_every_table_is_a_file_with_the_same_cells(results: dict[str, Any], tmp_path: Path) -> None:
    names = write_tables(results, tmp_path)
    tables = {f"demo-{name}.csv": one for name, one in task_tables(results, "demo").items()}
    tables |= {f"{name}.csv": one for name, one in run_tables(results).items()}
    problems = changed_problems(results["tasks"]["demo"])
    assert problems is not None
    tables["demo-changed-problems.csv"] = problems  # a file alone
    assert sorted(names) == sorted(tables) == sorted(path.name for path in tmp_path.iterdir())
    assert "demo-mcnemar.csv" in names
    for name, table in tables.items():
        with (tmp_path / name).open(encoding="utf-8", newline="") as file:
            assert [tuple(row) for row in csv.reader(file)] == [table.header, *table.rows]


def test_a_cell_with_commas_quotes_and_line_ends_survives() -> None:
    table = TextTable("caption", ("a", "b"), (('1, "2"', "x\ny"),))
    assert [tuple(row) for row in csv.reader(table.csv().splitlines(keepends=True))] == [
        table.header,
        *table.rows,
    ]


def test_caches_that_change_no_token_are_not_called_approximate(results: dict[str, Any]) -> None:
    found = {**results["tasks"]["demo"], "caches": {}}
    assert "approximate" not in decoding_text({**found, "cache": "exact"})
    assert decoding_text({**found, "cache": "dual"}).endswith("That is faster and approximate.")
