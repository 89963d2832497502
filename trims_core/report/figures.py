"""The report's figures as PNG and SVG, for papers and slides; the page draws its own.

The same results give the same bytes: no date is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from trims_core.report.ablation_figure import ablation_jobs
from trims_core.report.analysis_figures import analysis_jobs
from trims_core.report.appearance import LIGHT, bucket_colours
from trims_core.report.curve_figures import curve_jobs
from trims_core.report.figure_style import empty_figure, head, legend
from trims_core.report.training_figures import training_jobs

_DPI: Final = 160
Results = Mapping[str, Any]


def draw_all(results: Results, folder: Path, progress: Callable[[str], None] = lambda _: None) -> list[str]:
    """Draws every figure: NAME.png and NAME.svg.

    Args:
        progress: told each figure's name before it is drawn.

    Returns:
        The file names inside `folder`.
    """
    jobs = curve_jobs(results)
    if results["buckets"] is not None:
        jobs["difficulty"] = partial(_draw_difficulty, found=results["buckets"])
    jobs |= {**training_jobs(results), **analysis_jobs(results), **ablation_jobs(results)}
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


def _draw_difficulty(figure: Figure, found: Results) -> None:
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
