"""The figures of an analysis: trajectories under the teacher, order, calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
        named: dict[str, Callable[..., None]] = {}
        if analysis["trajectories"]:
            named["trajectories"] = partial(_trajectories, along="by_share")
            named["trajectories-by-step"] = partial(_trajectories, along="by_step")
        named |= {"order": _order, "reveals": _reveals, "calibration": _calibration}
        for name, draw in named.items():
            jobs[f"{name}-{task}"] = partial(draw, found=analysis, styles=styles, task=task)
    return jobs


def _trajectories(figure: Figure, found: Results, styles: Mapping[str, Look], task: str, along: str) -> None:
    """Mean NLL along the share revealed or the forwards spent: a panel per kind of text, a line each."""
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (kind, says) in zip(panels, _KINDS.items(), strict=True):
        for method, curves in found["trajectories"].items():
            rows = [row for row in curves[along] if row[f"{kind}_nats"] is not None]
            x, y, low, high = (
                [row[name] for row in rows]
                for name in ("x", *(f"{kind}_{e}" for e in ("nats", "low", "high")))
            )
            look = styles[method]
            axes.fill_between(x, low, high, color=look.colour, alpha=0.13, linewidth=0)
            axes.plot(x, y, color=look.colour, linestyle=look.line, linewidth=2, label=method)
        axes.set_xlabel("share of tokens revealed" if along == "by_share" else "forwards")
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


def _reveals(figure: Figure, found: Results, styles: Mapping[str, Look], task: str) -> None:
    """What share of an answer each forward reveals, and how many runs of adjacent positions it has."""
    left, right = figure.subplots(1, 2)
    for method, of in found["order"].items():
        look = styles[method]
        line = {"color": look.colour, "linestyle": look.line, "linewidth": 1.7}
        shares = of["revealed_per_step"]
        left.plot(range(1, len(shares) + 1), shares, label=method, **line)
        n = found["calibration"][method]["answers"]["n"]
        runs = [(length, count / n) for length, count in of["run_lengths"]]
        right.plot(*zip(*runs, strict=True), marker=look.marker, markersize=4.5, **line)
    head(left, f"Reveals: {task}", "share of an answer's tokens per forward")
    head(right, "", "runs of adjacent positions")
    left.set_xlabel("forward")
    left.set_ylabel("share revealed")
    right.set_xlabel("length of a run")
    right.set_ylabel("runs per answer")
    right.set_yscale("log")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(left)


def _calibration(figure: Figure, found: Results, styles: Mapping[str, Look], task: str) -> None:
    """What came true against confidence, of tokens and of answers: a line per method, the diagonal dotted."""
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    of_methods = found["calibration"]
    of_answers = {method: of["answers"] for method, of in of_methods.items()}
    for axes, of_kind in zip(panels, (of_methods, of_answers), strict=True):
        axes.plot([0, 1], [0, 1], color=LIGHT.faint, linestyle=(0, (2, 3)), linewidth=1)
        for method, of in of_kind.items():
            bins, look = of["bins"], styles[method]
            axes.plot(
                [one["confidence"] for one in bins],
                [one["agreement"] for one in bins],
                color=look.colour,
                linestyle=look.line,
                marker=look.marker,
                label=method if of["ece"] is None else f"{method}  (ECE {of['ece']:.3f})",
            )
        legend(axes)
    head(panels[0], f"Calibration: {task}", "tokens that one token per forward gives, too")
    head(panels[1], "", "answers that are right")
    panels[0].set_xlabel("confidence at reveal")
    panels[1].set_xlabel("mean confidence of an answer")
    panels[0].set_ylabel("share that comes true")
