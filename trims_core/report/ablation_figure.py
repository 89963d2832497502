"""The figure of an ablation: every arm's difference to the base, with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from matplotlib.figure import Figure

from trims_core.report.appearance import LIGHT
from trims_core.report.contrast_tables import BOTH, PROBLEMS, WORDS, where_text
from trims_core.report.verdicts import told_apart

_ROW_INCHES: Final = 0.27
_MARGIN_INCHES: Final = 1.75
_GAP: Final = 0.6
"""Between factors, in rows."""


def ablation_jobs(results: Mapping[str, Any]) -> dict[str, Callable[[Figure], None]]:
    """What draws `ablations-<task>`, where an arm is compared with the base."""
    return {
        f"ablations-{task}": partial(_draw, results=results, task=task)
        for task in results["tasks"]
        if any(one is not None for one in _differences(results, task))
    }


def _differences(results: Mapping[str, Any], task: str) -> list[dict[str, Any] | None]:
    """Of every row to the base, where methods are judged."""
    rows = (results["ablations"] or {"rows": []})["rows"]
    return [row["tasks"][task]["difference"] for row in rows]


def _draw(figure: Figure, results: Mapping[str, Any], task: str) -> None:
    """A row per value, grouped by factor: the difference in points with its interval; filled where it is told
    apart from none."""
    found, rows, differences = (
        results["tasks"][task],
        results["ablations"]["rows"],
        _differences(results, task),
    )
    both = any(one is not None and one[BOTH] is not None for one in differences)
    axes, y, colour = figure.subplots(), 0.0, LIGHT.trained[0]
    places, texts = [], []
    for row, one, above in zip(rows, differences, [None, *rows], strict=False):
        begins = above is None or above["factor"] != row["factor"]
        y += 1.0 + (_GAP if begins and above is not None else 0.0)
        places.append(y)
        value = f"{row['value']} (base)" if row["is_base"] else row["value"]
        texts.append(f"{row['factor']}:  {value}" if begins else value)
        if row["is_base"]:
            axes.plot(0, y, marker="|", markersize=11, markeredgewidth=2, color=LIGHT.faint)
        if one is None:
            continue
        for interval, width, alpha in ((one[PROBLEMS], 5.0, 0.35), (one[BOTH], 1.5, 1.0)):
            if interval is not None:
                ends = [100 * interval["low"], 100 * interval["high"]]
                axes.plot(ends, [y, y], color=colour, linewidth=width, alpha=alpha)
        face = colour if told_apart(one) else LIGHT.ground
        at = 100 * one["value"]
        axes.plot(at, y, marker="o", markersize=7, markerfacecolor=face, markeredgecolor=colour)
    axes.axvline(0, color=LIGHT.faint, linewidth=0.9, zorder=0)
    axes.set_yticks(places, texts)
    axes.set_ylim(y + 0.8, 0.2)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set_xlabel("difference to the base, points of accuracy")
    figure.set_figheight(_MARGIN_INCHES + _ROW_INCHES * y)
    seeds = max(len(one["by_seed"]) for one in differences if one is not None)
    lines = [
        f"{where_text(found)}, {found['n']} problems" + (f", {seeds} seeds" if seeds > 1 else ""),
        f"95 %: thick {WORDS[PROBLEMS]}" + (f", thin {WORDS[BOTH]}" if both else ""),
        "filled: told apart from the base" + (" (Holm)" if both else ""),
    ]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=9.5, color=LIGHT.faint)
    figure.suptitle(f"Ablations: {task}", x=0.01, ha="left", fontsize=13.5, fontweight="bold")
