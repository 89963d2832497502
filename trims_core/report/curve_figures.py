"""Curves as figures: accuracy against tokens per forward, forwards and tokens per second, and of caches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from matplotlib.figure import Figure

from trims_core.points import MEANINGS, WITHOUT_ERROR
from trims_core.report.appearance import LIGHT, Look, cache_looks, looks
from trims_core.report.contrast_tables import range_text
from trims_core.report.figure_style import head, legend

Results = Mapping[str, Any]


class Axis(NamedTuple):
    """What a curve runs along."""

    title: str
    field: str
    """Of a point."""
    label: str
    published: str | None
    """Field of a published point; None where such points tell nothing of the kind."""


TPF: Final = Axis(
    "Accuracy against parallelism", "tpf", "tokens per forward  (more parallel →)", "tokens_per_forward"
)
FORWARDS: Final = Axis(
    "Accuracy against forwards", "forwards_per_answer", "forwards per answer  (← fewer is faster)", None
)
SPEED: Final = Axis(
    "Accuracy against speed", "tokens_per_second", "tokens per second  (faster →)", "tokens_per_second"
)


def curve_jobs(results: Results) -> dict[str, Callable[[Figure], None]]:
    """Name → what draws it: every task along every axis, and its caches where there are several."""
    jobs: dict[str, Callable[[Figure], None]] = {}
    for name, axis in (("curve", TPF), ("forwards", FORWARDS), ("speed", SPEED)):
        jobs |= {
            f"{name}-{task}": partial(_draw_curve, results=results, task=task, along=axis)
            for task in results["tasks"]
        }
    return jobs | {
        f"caches-{task}": partial(_draw_caches, found=found, task=task)
        for task, found in results["tasks"].items()
        if found["caches"]
    }


def _draw_curve(figure: Figure, results: Results, task: str, along: Axis) -> None:
    """A line per method, Wilson bands, seeds as faint points; along tokens per forward the legend gives each
    method's mean over the range that all share.

    The first method's points carry their thresholds; of one run the other curves have the same ones in the
    same order.
    """
    found = results["tasks"][task]
    styles = looks(results["methods"], LIGHT)
    axes = figure.subplots()
    for name, points in found["curves"].items():
        mean = found["numbers"][name]["mean_over_range"] if along is TPF else None
        label = name if mean is None else f"{name}  ({100 * mean['value']:.1f} %)"
        _draw_points(axes, styles[name], label, points, along.field)
    if along.published is not None:
        _draw_published(axes, found["protocol"]["published"], along.published)
    _label_thresholds(axes, next(iter(found["curves"].values())), MEANINGS[found["rule"]].word, along.field)
    _draw_hollow(axes, [], [], "o", 10, LIGHT.faint, label="one token per forward")
    seeds = max(point["n_seeds"] for points in found["curves"].values() for point in points)
    averaged = f", mean of {seeds} seeds" if seeds > 1 else ""
    cache = "" if found["cache"] == "none" else f", cache {found['cache']}"
    about = f"{found['n']} problems{averaged}{cache}; bands: 95 % intervals over problems"
    head(axes, f"{along.title}: {task}", about)
    axes.set_xlabel(along.label)
    axes.set_ylabel("accuracy, %")
    axes.margins(x=0.06)
    low, high = axes.get_ylim()
    axes.set_ylim(max(-3.0, low - 4), min(103.0, high + 2))
    shared = range_text(found) if along is TPF else None
    legend(axes, title=f"mean over {shared} per forward in brackets" if shared else None)


def _draw_published(axes: Any, points: Sequence[Results], field: str) -> None:
    """What others published under the same profile: hollow, each with its method's name."""
    placed = [point for point in points if point[field] is not None]
    if not placed:
        return
    x, y = ([point[name] for point in placed] for name in (field, "accuracy"))
    _draw_hollow(axes, x, y, "D", 7, LIGHT.faint, markeredgewidth=1.3, label="published, same profile")
    for point, *at in zip(placed, x, y, strict=True):
        axes.annotate(
            point["method"], at, textcoords="offset points", xytext=(6, -10), fontsize=8.5, color=LIGHT.faint
        )


def _draw_caches(figure: Figure, found: Results, task: str) -> None:
    """Accuracy against tokens per second: a line per cache of the untuned student, Wilson bands."""
    axes = figure.subplots()
    styles = cache_looks(list(found["caches"]), LIGHT)
    for name, points in found["caches"].items():
        approximate = "exact" if name in WITHOUT_ERROR else "approximate"
        _draw_points(axes, styles[name], f"{name}  ({approximate})", points, SPEED.field)
    about = f"untuned student, {found['n']} problems; bands: 95 % intervals"
    head(axes, f"Caches: {task}", about)
    axes.set_xlabel(SPEED.label)
    axes.set_ylabel("accuracy, %")
    axes.set_xlim(left=0)
    legend(axes, title="cache")


def _draw_points(axes: Any, look: Look, label: str, points: Sequence[Results], along: str) -> None:
    """A line through the points in the order of tokens per forward, its band, seeds, and the ringed point."""
    points = sorted(points, key=lambda point: point["tpf"])
    x = [point[along] for point in points]
    y, low, high = ([100 * point[key] for point in points] for key in ("accuracy", "low", "high"))
    axes.fill_between(x, low, high, color=look.colour, alpha=0.13, linewidth=0)
    seeds = [seed for point in points if point["n_seeds"] > 1 for seed in point["seeds"]]
    axes.plot(
        [seed[along] for seed in seeds],
        [100 * seed["accuracy"] for seed in seeds],
        linestyle="none",
        marker=look.marker,
        markersize=3.5,
        color=look.colour,
        alpha=0.35,
    )
    axes.plot(
        x,
        y,
        linestyle=look.line,
        linewidth=2.1,
        marker=look.marker,
        markersize=6.5,
        color=look.colour,
        markeredgecolor=LIGHT.ground,
        markeredgewidth=0.9,
        label=label,
        zorder=3,
    )
    ringed = [point for point in points if point["threshold"] is None]
    x, y = [point[along] for point in ringed], [100 * point["accuracy"] for point in ringed]
    _draw_hollow(axes, x, y, "o", 12, look.colour, zorder=4)


def _draw_hollow(
    axes: Any,
    x: Sequence[float],
    y: Sequence[float],
    marker: str,
    size: float,
    colour: str,
    *,
    markeredgewidth: float = 1.4,
    **options: Any,
) -> None:
    """Outlines of markers, without a line between them."""
    look: dict[str, Any] = {"marker": marker, "markersize": size, "markeredgecolor": colour}
    axes.plot(
        x, y, linestyle="none", markerfacecolor="none", markeredgewidth=markeredgewidth, **look, **options
    )


def _label_thresholds(axes: Any, points: Sequence[Results], word: str, along: str) -> None:
    """Each point's threshold, on a thin line below its interval; the smallest says what the numbers are."""
    labelled = [point for point in points if point["threshold"] is not None]
    smallest = min((point["threshold"] for point in labelled), default=None)
    for point in labelled:
        threshold, x = point["threshold"], point[along]
        y, bottom = 100 * point["accuracy"], 100 * point["low"]
        axes.plot([x, x], [y, bottom], color=LIGHT.faint, linewidth=0.7, alpha=0.6, zorder=1)
        axes.annotate(
            f"{word} {threshold:g}" if threshold == smallest else f"{threshold:g}",
            (x, bottom),
            xytext=(0, -4),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=9,
            color=LIGHT.faint,
        )
