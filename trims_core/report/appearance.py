"""Colours, markers and sizes: how methods and buckets look in every figure and on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Theme:
    """Colours of one appearance."""

    ground: str
    ink: str
    faint: str
    grid: str
    trained: tuple[str, ...]
    baseline: tuple[str, ...]
    untuned: str


LIGHT: Final = Theme(
    ground="#ffffff",
    ink="#1f2430",
    faint="#6b7280",
    grid="#e5e7eb",
    trained=("#0b62a8", "#0a8f6c", "#8a4fbf", "#1b86a5", "#c23b80", "#6a7d1f", "#4a4e9c"),
    baseline=("#d9570a", "#b58900", "#a33c2a"),
    untuned="#7a7f87",
)
DARK: Final = Theme(
    ground="#15181e",
    ink="#e6e8ec",
    faint="#9aa2ae",
    grid="#2c323c",
    trained=("#5ab0f2", "#45cfa5", "#c398f0", "#7fdcf2", "#f08cc0", "#c3d86a", "#9da3f2"),
    baseline=("#ff9a52", "#e5c558", "#ef8a76"),
    untuned="#a9afb8",
)


@dataclass(frozen=True)
class Shape:
    """Size of a figure, in inches; the narrow one is for phones and leaves titles to the page."""

    width: float
    height: float
    narrow: bool


WIDE: Final = Shape(7.2, 4.9, narrow=False)
NARROW: Final = Shape(4.3, 4.9, narrow=True)

VARIANTS: Final = {
    "": (LIGHT, WIDE),
    "-dark": (DARK, WIDE),
    "-narrow": (LIGHT, NARROW),
    "-narrow-dark": (DARK, NARROW),
}
"""Ending of an SVG's name → theme and shape."""

_MARKERS: Final = {
    "untuned": ("s", "d", "x"),
    "baseline": ("^", "v", "<"),
    "trained": ("o", "D", "h", "X", "P", "p", "*"),
}
_DASHES: Final = (0, (4, 2))
_GREY: Final = 0.179
"""Luminance that contrasts equally with black and white."""


@dataclass(frozen=True)
class Look:
    """How one method is drawn, everywhere."""

    colour: str
    marker: str
    line: Any


def looks(methods: Sequence[Mapping[str, Any]], theme: Theme) -> dict[str, Look]:
    """Colour, marker and line of each method: blue and its neighbours, baselines orange, untuned grey."""
    palettes = {"untuned": (theme.untuned,), "baseline": theme.baseline, "trained": theme.trained}
    out: dict[str, Look] = {}
    seen = dict.fromkeys(palettes, 0)
    for method in methods:
        kind = method["kind"]
        palette, markers, number = palettes[kind], _MARKERS[kind], seen[kind]
        out[method["name"]] = Look(
            palette[number % len(palette)],
            markers[(number + number // len(palette)) % len(markers)],  # a colour's second use has another
            _DASHES if kind == "untuned" else "-",
        )
        seen[kind] += 1
    return out


def cache_looks(names: Sequence[str], theme: Theme) -> dict[str, Look]:
    """Colour, marker and line of each cache: the exact one grey like the untuned student."""
    colours = {
        "none": theme.untuned,
        "prefix": theme.baseline[0],
        "dual": theme.trained[0],
        "exact": theme.trained[1],
    }
    markers = {"none": "s", "prefix": "^", "dual": "o", "exact": "D"}
    return {name: Look(colours[name], markers[name], _DASHES if name == "none" else "-") for name in names}


def bucket_colours(k: int) -> list[tuple[str, str]]:
    """(background, text) per bucket, hardest first: dark red to pale yellow, darker where harder.

    Text is black or white, whichever contrasts more: at least 4.5 to 1 (WCAG 2.1, AA).
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    ramp = colormaps["YlOrRd"]
    out = []
    for i in range(k):
        red, green, blue, _ = ramp(0.92 - 0.88 * (i / max(1, k - 1)))
        bright = 0.2126 * _linear(red) + 0.7152 * _linear(green) + 0.0722 * _linear(blue) > _GREY
        out.append((to_hex((red, green, blue)), "#000000" if bright else "#ffffff"))
    return out


def _linear(channel: float) -> float:
    """A colour channel (sRGB, 0 to 1) as light."""
    return float(channel / 12.92 if channel <= 0.03928 else ((channel + 0.055) / 1.055) ** 2.4)
