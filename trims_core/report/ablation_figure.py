"""The figure of an ablation: every arm's difference to the base, with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from trims_core.report.appearance import Shape, Theme
from trims_core.report.contrast_tables import BOTH, PROBLEMS, WORDS, range_text
from trims_core.report.figures import draw, head
from trims_core.report.verdicts import told_apart

_ROW_INCHES: Final = 0.27
_MARGIN_INCHES: Final = 1.3
_GAP: Final = 0.6
"""Between factors, in rows."""


def draw_ablations(results: Mapping[str, Any], folder: Path, progress: Callable[[str], None]) -> list[str]:
    """The names of the files that were drawn, a figure per task; none where nothing was ablated."""
    if results["ablations"] is None:
        return []
    jobs = {f"ablations-{task}": partial(_draw, results=results, task=task) for task in results["tasks"]}
    return draw(jobs, folder, progress)


def _draw(figure: Figure, theme: Theme, shape: Shape, results: Mapping[str, Any], task: str) -> None:
    """A row per value, grouped by factor: mean difference over the shared range, in points; filled where it
    is told apart from none."""
    found, rows = results["tasks"][task], results["ablations"]["rows"]
    differences = [row["tasks"][task]["difference"] for row in rows]
    both = any(one is not None and one[BOTH] is not None for one in differences)
    kind = BOTH if both else PROBLEMS
    axes, at, y = figure.subplots(), [], 0.0
    for number, (row, one) in enumerate(zip(rows, differences, strict=True)):
        y += 1.0 + (_GAP if number and row["factor"] != rows[number - 1]["factor"] else 0.0)
        at.append(y)
        if one is None:
            axes.plot(0, y, marker="|", markersize=11, markeredgewidth=2, color=theme.faint)
            continue
        interval = one[kind] or one[PROBLEMS]
        colour = theme.trained[0]
        axes.plot([100 * interval["low"], 100 * interval["high"]], [y, y], color=colour, linewidth=1.8)
        face = colour if told_apart(one) else theme.ground
        axes.plot(
            100 * one["value"], y, marker="o", markersize=7, markerfacecolor=face, markeredgecolor=colour
        )
    axes.axvline(0, color=theme.faint, linewidth=0.9, zorder=0)
    axes.set_yticks(
        at, [_row_text(row, rows[number - 1] if number else None) for number, row in enumerate(rows)]
    )
    axes.set_ylim(y + 0.8, 0.2)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set_xlabel("difference to the base, points of accuracy")
    figure.set_figheight(max(shape.height * 0.6, _MARGIN_INCHES + _ROW_INCHES * y))
    seeds = max((len(one["by_seed"]) for one in differences if one is not None), default=0)
    averaged = f", {seeds} seeds" if seeds > 1 else ""
    about = f"mean over {range_text(found)} tokens per forward, {found['n']} problems{averaged}"
    head(axes, theme, shape, f"Ablations: {task}", f"{about}; 95 % {WORDS[kind]}; filled: told apart")


def _row_text(row: Mapping[str, Any], above: Mapping[str, Any] | None) -> str:
    """The value, behind its factor where that begins."""
    value = f"{row['value']} (base)" if row["is_base"] else str(row["value"])
    return value if above is not None and above["factor"] == row["factor"] else f"{row['factor']}:  {value}"
