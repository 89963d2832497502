"""At which tokens per forward methods can be compared: the range that all of them reach, and levels inside.

A model's range goes from its slowest threshold to its fastest. The one-token-per-forward point does not
extend it: between that point and the slowest threshold no model was decoded, and a level there would compare
interpolations with cells. Where a rule's points are numbers of forwards, models that share no range (as in a
sweep of one point) are compared at equal forwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trims_core.points import MEANINGS
from trims_core.report.cells import Cell
from trims_core.report.intervals import rounded

_MAX_AUTOMATIC: Final = 6
_STEPS: Final = (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)

Range = tuple[float, float]


@dataclass(frozen=True)
class LeftOut:
    """A configured level that a model does not reach."""

    tpf: float
    model: str
    end: str
    """slowest: its slowest threshold is faster already; fastest: its fastest threshold is slower still."""
    at: float
    """Tokens per forward of that threshold."""


@dataclass(frozen=True)
class Levels:
    """Where methods are compared on one task."""

    shared: Range | None
    """The tokens per forward that every model reaches, from lowest to highest; None where there are none."""
    tpf: tuple[float, ...]
    automatic: bool
    """Whether they are round numbers because none of the configured ones fits."""
    left_out: tuple[LeftOut, ...]
    forwards: tuple[float, ...] = ()
    """Numbers of forwards at which methods are compared where they share no range."""

    def row(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "range": None if self.shared is None else [rounded(end) for end in self.shared],
            "levels": list(self.tpf),
            "automatic": self.automatic,
            "forwards": list(self.forwards),
            "left_out": [{**vars(one), "at": rounded(one.at)} for one in self.left_out],
        }


def ranges_of(cells: Sequence[Cell]) -> dict[str, Range]:
    """Per model the tokens per forward of its slowest and its fastest threshold.

    A model that has no threshold (in a partial report) stands at its one-token-per-forward point.
    """
    tpfs: dict[str, list[float]] = {}
    for cell in cells:
        mine = tpfs.setdefault(cell.model, [])
        if cell.threshold is not None:
            mine.append(cell.tpf)
    return {
        model: (min(mine), max(mine)) if mine else _one_point(cells, model) for model, mine in tpfs.items()
    }


def common_forwards(cells: Sequence[Cell]) -> tuple[float, ...]:
    """Numbers of forwards that every model was decoded with; empty with rules that decide it themselves."""
    if not MEANINGS[cells[0].rule].counts_forwards:
        return ()
    of_model: dict[str, set[float]] = {}
    for cell in cells:
        of_model.setdefault(cell.model, set()).update(() if cell.threshold is None else (cell.threshold,))
    return tuple(sorted(set.intersection(*of_model.values())))


def choose_levels(
    ranges: Mapping[str, Range], configured: Sequence[float], forwards: Sequence[float] = ()
) -> Levels:
    """The configured levels inside every model's range; round numbers where none is inside.

    Args:
        ranges: by model, as `ranges_of` gives them.
        forwards: what `common_forwards` gives; looked at where models share no range.
    """
    slowest = max(ranges, key=lambda model: ranges[model][0])
    fastest = min(ranges, key=lambda model: ranges[model][1])
    low, high = ranges[slowest][0], ranges[fastest][1]
    inside, left_out = [], []
    for tpf in sorted(set(configured)):
        if tpf < low:
            left_out.append(LeftOut(tpf, slowest, "slowest", low))
        elif tpf > high:
            left_out.append(LeftOut(tpf, fastest, "fastest", high))
        else:
            inside.append(tpf)
    shared = (low, high) if low < high else None
    automatic = not inside
    at = () if shared else tuple(forwards)
    return Levels(shared, tuple(inside or round_levels(low, high)), automatic, tuple(left_out), at)


def round_levels(low: float, high: float) -> list[float]:
    """Round numbers from low to high, at most six; may be empty."""
    for step in _STEPS:
        first, last = -int(-low // step), int(high // step)
        levels = [round(i * step, 6) for i in range(first, last + 1)]
        levels = [level for level in levels if low <= level <= high]
        if len(levels) <= _MAX_AUTOMATIC:
            return levels
    return []


def _one_point(cells: Sequence[Cell], model: str) -> Range:
    tpf = next(cell.tpf for cell in cells if cell.model == model)
    return (tpf, tpf)
