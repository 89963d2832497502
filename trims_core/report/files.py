"""The files of a report: the page, what it is made of, tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trims_core.report.figures import draw_all
from trims_core.report.page import render_page
from trims_core.report.player import samples_to_json
from trims_core.report.results import to_json
from trims_core.report.tables import table_markdown, write_tables


def write_all(
    results: Mapping[str, Any],
    samples: Mapping[str, Any],
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Writes what follows from the results and the samples; gives back the names, the page's first."""
    progress("writing the page and the tables")
    (folder / "index.html").write_text(render_page(results, samples), encoding="utf-8")
    (folder / "results.json").write_bytes(to_json(results))
    (folder / "samples.json").write_bytes(samples_to_json(samples))
    (folder / "table.md").write_text(table_markdown(results), encoding="utf-8")
    tables = write_tables(results, folder / "tables")
    figures = draw_all(results, folder / "figures", progress)
    return [
        *("index.html", "results.json", "samples.json", "table.md"),
        *(f"tables/{name}" for name in tables),
        *(f"figures/{name}" for name in figures),
    ]
