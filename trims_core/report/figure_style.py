"""How the report's figures look: an empty one, its heading, its legend.

Nobody's matplotlibrc counts, ids come from a fixed salt, and text is drawn as outlines, so that it looks
alike without fonts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from trims_core.report.appearance import LIGHT

_SIZE_INCHES: Final = (7.2, 4.9)


@contextmanager
def empty_figure() -> Iterator[Figure]:
    """A figure with nothing in it; the settings hold while the block lasts."""
    ink, faint, ground = LIGHT.ink, LIGHT.faint, LIGHT.ground
    settings = {
        "font.family": "DejaVu Sans",
        "font.size": 11.5,
        "svg.hashsalt": "trims-report",
        "svg.fonttype": "path",
        "figure.facecolor": ground,
        "axes.facecolor": ground,
        "savefig.facecolor": ground,
        "axes.edgecolor": faint,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": LIGHT.grid,
        "grid.linewidth": 0.8,
        "xtick.color": faint,
        "ytick.color": faint,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), ink),
        "legend.frameon": False,
        "legend.fontsize": 10.5,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def head(axes: Any, title: str, subtitle: str) -> None:
    """A bold title and a faint line below it, flush with the axis."""
    place = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
    axes.annotate(title, xytext=(0, 27), fontsize=13.5, fontweight="bold", **place)
    axes.annotate(subtitle, xytext=(0, 9), fontsize=10.5, color=LIGHT.faint, **place)


def legend(axes: Any, **options: Any) -> None:
    """Where there is room inside the axes, in front of the lines."""
    box = axes.legend(loc="best", handlelength=2.6, **options)
    box.set_frame_on(True)
    box.get_frame().set(facecolor=LIGHT.ground, edgecolor="none", alpha=0.85)
