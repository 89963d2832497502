"""Colours and markers: how methods, caches and buckets look in every figure and on the page.

Figures are light; the page has both themes, as variables of its style sheet.
"""

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


_MARKERS: Final = {
    "untuned": ("s", "d", "8"),
    "baseline": ("^", "v", "<"),
    "trained": ("o", "D", "h", "X", "P", "p", "*"),
}
_SYMBOLS: Final = {
    "s": "square",
    "d": "diamond2",
    "8": "square2",
    "^": "triangle",
    "v": "triangle2",
    "<": "wye",
    "o": "circle",
    "D": "diamond",
    "h": "hexagon",
    "X": "times",
    "P": "cross",
    "p": "star",
    "*": "asterisk",
}
"""Marker of a figure → what the page's chart library calls the nearest one it has."""
_DASHES: Final = (0, (4, 2))
_GREY: Final = 0.179
"""Luminance that contrasts equally with black and white."""


@dataclass(frozen=True)
class Look:
    """How one method is drawn, everywhere."""

    colour: str
    marker: str
    line: Any

    @property
    def symbol(self) -> str:
        """The marker's name on the page."""
        return _SYMBOLS[self.marker]

    @property
    def is_dashed(self) -> bool:
        """Whether its line is."""
        return self.line == _DASHES


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
    """(background, text) per bucket, hardest first: dark red to pale yellow, darker where harder."""
    return shades("YlOrRd", [0.92 - 0.88 * (i / max(1, k - 1)) for i in range(k)])


def token_colours(count: int) -> dict[str, list[tuple[str, str]]]:
    """(background, text) of a token by what it is coloured by, in so many steps from the least to the most.

    Late reveals, unsure ones and hard tokens are the dark ones.
    """
    rising = [i / max(1, count - 1) for i in range(count)]
    return {
        "step": shades("GnBu", [0.08 + 0.84 * x for x in rising]),
        "confidence": shades("PuBu", [0.85 - 0.8 * x for x in rising]),
        "entropy": shades("PuBu", [0.05 + 0.8 * x for x in rising]),
        "difficulty": shades("YlOrRd", [0.04 + 0.88 * x for x in rising]),
    }


def shades(colormap: str, places: Sequence[float]) -> list[tuple[str, str]]:
    """(background, text) at these places, 0 to 1, of a colour map that rises or falls in lightness alone.

    Text is black or white, whichever contrasts more: at least 4.5 to 1 (WCAG 2.1, AA).
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    out = []
    for red, green, blue, _ in map(colormaps[colormap], places):
        bright = 0.2126 * _linear(red) + 0.7152 * _linear(green) + 0.0722 * _linear(blue) > _GREY
        out.append((to_hex((red, green, blue)), "#000000" if bright else "#ffffff"))
    return out


def style_variables(methods: Sequence[Mapping[str, Any]], caches: Sequence[str], theme: Theme) -> str:
    """A theme as the declarations of a style sheet: --ground, --ink, …, --method-0, …, --cache-none, …"""
    named = {"ground": theme.ground, "ink": theme.ink, "faint": theme.faint, "grid": theme.grid}
    named |= {f"method-{i}": look.colour for i, look in enumerate(looks(methods, theme).values())}
    named |= {f"cache-{name}": look.colour for name, look in cache_looks(caches, theme).items()}
    return " ".join(f"--{name}: {colour};" for name, colour in named.items())


def _linear(channel: float) -> float:
    """A colour channel (sRGB, 0 to 1) as light."""
    return float(channel / 12.92 if channel <= 0.03928 else ((channel + 0.055) / 1.055) ** 2.4)
