"""The report's figures as PNG and SVG, for papers and slides; the page draws its own.

The same results give the same bytes: no date is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from trims_core.points import MEANINGS
from trims_core.report.ablation_figure import ablation_jobs
from trims_core.report.analysis_figures import analysis_jobs
from trims_core.report.appearance import LIGHT, Look, bucket_colours, cache_looks, looks
from trims_core.report.contrast_tables import range_text
from trims_core.report.figure_style import empty_figure, head, legend

_DPI: Final = 160
Results = Mapping[str, Any]


def draw_all(results: Results, folder: Path, progress: Callable[[str], None] = lambda _: None) -> list[str]:
    """Draws every figure: NAME.png and NAME.svg.

    Args:
        progress: told each figure's name before it is drawn.

    Returns:
        The file names inside `folder`.
    """
    jobs: dict[str, Callable[[Figure], None]] = {
        f"curve-{task}": partial(draw_curve, results=results, task=task) for task in results["tasks"]
    }
    jobs |= {
        f"caches-{task}": partial(draw_caches, found=found, task=task)
        for task, found in results["tasks"].items()
        if found["caches"]
    }
    if results["buckets"] is not None:
        jobs["difficulty"] = partial(draw_difficulty, found=results["buckets"])
    if results["losses"]:
        jobs["losses"] = partial(draw_losses, results=results)
    jobs |= {**analysis_jobs(results), **ablation_jobs(results)}
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, job in jobs.items():
        progress(f"drawing {name}")
        with empty_figure() as figure:
            job(figure)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
            figure.savefig(folder / f"{name}.png", dpi=_DPI, metadata={"Software": None})
        written += [f"{name}.svg", f"{name}.png"]
    return written


def draw_curve(figure: Figure, results: Results, task: str) -> None:
    """Accuracy against tokens per forward: a line per method, Wilson bands, seeds as faint points; the legend
    gives each method's mean over the range that all share.

    The first method's points carry their thresholds; the other curves have the same ones in the same order.
    """
    found = results["tasks"][task]
    styles = looks(results["methods"], LIGHT)
    axes = figure.subplots()
    for name, points in found["curves"].items():
        mean = found["numbers"][name]["mean_over_range"]
        label = name if mean is None else f"{name}  ({100 * mean['value']:.1f} %)"
        _draw_points(axes, styles[name], label, points, "tpf")
    _draw_published(axes, found["protocol"]["published"])
    _label_thresholds(axes, next(iter(found["curves"].values())), MEANINGS[found["rule"]].word)
    ring: dict[str, Any] = {
        "marker": "o",
        "markersize": 10,
        "markerfacecolor": "none",
        "markeredgecolor": LIGHT.faint,
    }
    axes.plot([], [], linestyle="none", markeredgewidth=1.4, label="one token per forward", **ring)
    seeds = max(point["n_seeds"] for points in found["curves"].values() for point in points)
    averaged = f", mean of {seeds} seeds" if seeds > 1 else ""
    cache = "" if found["cache"] == "none" else f", cache {found['cache']}"
    about = f"{found['n']} problems{averaged}{cache}; bands: 95 % intervals over problems"
    head(axes, f"Accuracy against parallelism: {task}", about)
    axes.set_xlabel("tokens per forward  (more parallel →)")
    axes.set_ylabel("accuracy, %")
    axes.margins(x=0.06)
    low, high = axes.get_ylim()
    axes.set_ylim(max(-3.0, low - 4), min(103.0, high + 2))
    shared = range_text(found)
    legend(axes, title=f"mean over {shared} per forward in brackets" if shared else None)


def _draw_published(axes: Any, points: Sequence[Results]) -> None:
    """What others published under the same profile: hollow, each with its method's name."""
    placed = [point for point in points if point["tokens_per_forward"] is not None]
    if not placed:
        return
    axes.plot(
        [point["tokens_per_forward"] for point in placed],
        [point["accuracy"] for point in placed],
        linestyle="none",
        marker="D",
        markersize=7,
        markerfacecolor="none",
        markeredgecolor=LIGHT.faint,
        markeredgewidth=1.3,
        label="published, same profile",
    )
    for point in placed:
        at = (point["tokens_per_forward"], point["accuracy"])
        axes.annotate(
            point["method"], at, textcoords="offset points", xytext=(6, -10), fontsize=8.5, color=LIGHT.faint
        )


def draw_caches(figure: Figure, found: Results, task: str) -> None:
    """Accuracy against tokens per second: a line per cache of the untuned student, Wilson bands."""
    axes = figure.subplots()
    styles = cache_looks(list(found["caches"]), LIGHT)
    for name, points in found["caches"].items():
        approximate = "exact" if name == "none" else "approximate"
        _draw_points(axes, styles[name], f"{name}  ({approximate})", points, "tokens_per_second")
    about = f"untuned student, {found['n']} problems; bands: 95 % intervals"
    head(axes, f"Caches: {task}", about)
    axes.set_xlabel("tokens per second  (faster →)")
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
    axes.plot(
        [point[along] for point in ringed],
        [100 * point["accuracy"] for point in ringed],
        linestyle="none",
        marker="o",
        markersize=12,
        markerfacecolor="none",
        markeredgecolor=look.colour,
        markeredgewidth=1.4,
        zorder=4,
    )


def _label_thresholds(axes: Any, points: Sequence[Results], word: str) -> None:
    """Each point's threshold, on a thin line below its interval; the smallest says what the numbers are."""
    labelled = [point for point in points if point["threshold"] is not None]
    smallest = min((point["threshold"] for point in labelled), default=None)
    for point in labelled:
        threshold, x = point["threshold"], point["tpf"]
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


def draw_difficulty(figure: Figure, found: Results) -> None:
    """How many answer tokens have which difficulty, coloured by bucket, edges as lines, logarithmic axis.

    Tokens below the first bin, those of exactly 0 nats among them, are one bar at the left end.
    """
    axes = figure.subplots()
    edges, below = found["bins"]["edges_nats"], found["bins"]["n_below_per_bucket"]
    ratio = edges[1] / edges[0]
    zero = (edges[0] / ratio**4, edges[0] / ratio**2)
    base = [0.0] * (len(edges) + 1)
    for bucket, (background, _) in enumerate(bucket_colours(found["k"])):
        counts = [below[bucket], 0, *found["bins"]["counts_per_bucket"][bucket]]
        top = [a + b for a, b in zip(base, counts, strict=True)]
        axes.stairs(
            top,
            [*zero, *edges],
            baseline=base,
            fill=True,
            facecolor=background,
            edgecolor=LIGHT.ground,
            linewidth=0.4,
            label=str(bucket + 1),
        )
        base = top
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    if sum(below):
        at = ((zero[0] * zero[1]) ** 0.5, base[0])
        axes.annotate("0", at, xytext=(0, 3), textcoords="offset points", ha="center", color=LIGHT.faint)
    for edge in found["edges_nats"]:
        if edge >= edges[0]:
            axes.axvline(edge, color=LIGHT.ink, linewidth=0.9, linestyle=(0, (2, 2)), alpha=0.7)
    zeros = f"; {found['n_zero']:,} at exactly 0" if found["n_zero"] else ""
    about = f"{found['n_tokens']:,} tokens in {found['k']} buckets of equal size (1 = hardest)"
    about += f"; dashed: edges{zeros}"
    head(axes, "How hard the answer tokens are for the teacher", about)
    unit = "−log p of the teacher" if found["metric"] == "nll" else "entropy of the teacher"
    axes.set_xlabel(f"difficulty, nats ({unit})")
    axes.set_ylabel("student tokens")
    legend(axes, title="bucket", ncols=2 if found["k"] > 5 else 1)


def draw_losses(figure: Figure, results: Results) -> None:
    """Training loss (smoothed, as logged behind it) and validation loss, one line per model."""
    styles = looks(results["methods"], LIGHT)
    left, right = figure.subplots(1, 2, sharex=True)
    labelled: set[str] = set()
    for entry in results["losses"].values():
        look = styles[entry["method"]]
        label = None if entry["method"] in labelled else entry["method"]
        labelled.add(entry["method"])
        line = {"color": look.colour, "linewidth": 1.7, "alpha": 0.9}
        if entry["train"]:
            left.plot(*zip(*entry["train"], strict=True), color=look.colour, linewidth=0.7, alpha=0.2)
            left.plot(*zip(*entry["smoothed"], strict=True), label=label, **line)
        if entry["eval"]:
            right.plot(*zip(*entry["eval"], strict=True), marker=look.marker, markersize=4.5, **line)
    head(left, "Losses", "training, weighted as each method does")
    head(right, "", "validation")
    right.set_xlabel("optimizer step")
    left.set_xlabel("optimizer step")
    left.set_ylabel("nats per supervised token")
    left.legend()
