"""The figures of an analysis: trajectories under the teacher, order, calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from matplotlib.figure import Figure

from trims_core.report.appearance import LIGHT, Look, looks
from trims_core.report.figure_style import head, legend

Results = Mapping[str, Any]
_MEASURES: Final = {"position": "position", "difficulty": "teacher's difficulty", "confidence": "confidence"}
_KINDS: Final = {"revealed": "tokens revealed so far", "filled": "masks filled with proposals"}


def analysis_jobs(results: Results) -> dict[str, Callable[[Figure], None]]:
    """Name → what draws it, for every task that was analysed."""
    jobs: dict[str, Callable[[Figure], None]] = {}
    styles = looks(results["methods"], LIGHT)
    for task, found in results["tasks"].items():
        analysis = found.get("analysis")
        if not analysis:
            continue
        if analysis["trajectories"]:
            jobs[f"trajectories-{task}"] = partial(_trajectories, found=analysis, styles=styles, task=task)
        jobs[f"order-{task}"] = partial(_order, found=analysis, styles=styles, task=task)
        jobs[f"calibration-{task}"] = partial(_calibration, found=analysis, styles=styles, task=task)
    return jobs


def _trajectories(figure: Figure, found: Results, styles: Mapping[str, Look], task: str) -> None:
    """Mean NLL against the share revealed, a panel per kind of text, a line per method."""
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (kind, says) in zip(panels, _KINDS.items(), strict=True):
        for method, curves in found["trajectories"].items():
            rows = [row for row in curves["by_share"] if row[f"{kind}_nats"] is not None]
            x, y, low, high = (
                [row[name] for row in rows]
                for name in ("x", *(f"{kind}_{e}" for e in ("nats", "low", "high")))
            )
            look = styles[method]
            axes.fill_between(x, low, high, color=look.colour, alpha=0.13, linewidth=0)
            axes.plot(x, y, color=look.colour, linestyle=look.line, linewidth=2, label=method)
        axes.set_xlabel("share of tokens revealed")
        head(axes, "" if kind == "filled" else f"Trajectories under the teacher: {task}", says)
    panels[0].set_ylabel("nats per token")
    legend(panels[0])


def _order(figure: Figure, found: Results, styles: Mapping[str, Look], task: str) -> None:
    """Rank correlations of the reveal step, a panel per measure, a row per method."""
    panels = figure.subplots(1, len(_MEASURES), sharey=True)
    methods = list(found["order"])
    for axes, (measure, says) in zip(panels, _MEASURES.items(), strict=True):
        for row, method in enumerate(methods):
            stat, look = found["order"][method][measure], styles[method]
            if stat is not None:
                axes.plot([stat["low"], stat["high"]], [row, row], color=look.colour, linewidth=2)
                axes.plot(stat["mean"], row, marker=look.marker, color=look.colour, markersize=7)
        axes.axvline(0, color=LIGHT.faint, linewidth=0.9, zorder=0)
        axes.set_xlim(-1, 1)
        axes.set_ylim(len(methods) - 0.5, -0.5)
        head(axes, f"Order of reveals: {task}" if axes is panels[0] else "", f"with {says}")
    panels[0].set_yticks(range(len(methods)), methods)
    panels[1].set_xlabel("rank correlation of the reveal step")


def _calibration(figure: Figure, found: Results, styles: Mapping[str, Look], task: str) -> None:
    """Agreement against confidence, a line per method, the diagonal dotted."""
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=LIGHT.faint, linestyle=(0, (2, 3)), linewidth=1)
    for method, of in found["calibration"].items():
        bins = [one for one in of["bins"] if one["n"]]
        label = method if of["ece"] is None else f"{method}  (ECE {of['ece']:.3f})"
        look = styles[method]
        axes.plot(
            [one["confidence"] for one in bins],
            [one["agreement"] for one in bins],
            color=look.colour,
            linestyle=look.line,
            marker=look.marker,
            label=label,
        )
    head(axes, f"Calibration: {task}", "agreement with the answer of one token per forward")
    axes.set_xlabel("confidence at reveal")
    axes.set_ylabel("share that agrees")
    legend(axes)
