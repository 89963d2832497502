"""A report's folder: the page, its figures, results.json and table.md, all from the same results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trims_core.report.ablation_figure import draw_ablations
from trims_core.report.figures import draw_all
from trims_core.report.page import render_page
from trims_core.report.results import to_json
from trims_core.report.tables import table_markdown


def write_report(results: Mapping[str, Any], folder: Path, progress: Callable[[str], None]) -> list[str]:
    """The names of the files that were written, figures last.

    Args:
        progress: told what is done now.
    """
    figures = folder / "figures"
    (folder / "results.json").write_bytes(to_json(results))
    (folder / "table.md").write_text(table_markdown(results), encoding="utf-8")
    names = [*draw_all(results, figures, progress), *draw_ablations(results, figures, progress)]
    progress("writing the page")
    (folder / "index.html").write_text(render_page(results, figures), encoding="utf-8")
    return ["index.html", "results.json", "table.md", *(f"figures/{name}" for name in names)]
