"""How hard the teacher found the tokens of the answers that an analysis looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trims_core.report.analysed import Analysed, Row
from trims_core.report.cells import Cell
from trims_core.report.player import Difficulties, unscored

if TYPE_CHECKING:
    from trims_core.store import Artifact

Nats = Sequence[float | None] | None


def difficulties_of(analysis: Artifact | None) -> Difficulties:
    """A function of a cell and a problem: nats per canvas position, None where the teacher was not asked.

    Args:
        analysis: its info says at which cache and threshold it looked.
    """
    if analysis is None:
        return unscored
    point = (analysis.info["cache"], analysis.info["threshold"])
    read: dict[tuple[str, str], Mapping[str, Row]] = {}

    def of(cell: Cell, sample_id: str) -> Nats:
        if (cell.cache, cell.threshold) != point:
            return None
        key = (cell.task, cell.model)
        if key not in read:
            read[key] = Analysed(cell, analysis).scored()
        nats: Nats = read[key].get(sample_id, {}).get("difficulty_nats")
        return nats

    return of
