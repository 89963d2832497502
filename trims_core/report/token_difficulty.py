"""How hard the teacher found the tokens of the answers that an analysis looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trims_core.report.analysed import Analyses, Row
from trims_core.report.cells import Cell
from trims_core.report.player import Difficulties

Nats = Sequence[float | None] | None


def difficulties_of(analyses: Analyses) -> Difficulties:
    """A function of a cell and a problem: nats per canvas position, None where the teacher was not asked."""
    read: dict[tuple[str, str], Mapping[str, Row]] = {}

    def of(cell: Cell, sample_id: str) -> Nats:
        looked = analyses.of(cell)
        if looked is None:
            return None
        key = (cell.task, cell.model)
        if key not in read:
            read[key] = looked.scored()
        nats: Nats = read[key].get(sample_id, {}).get("difficulty_nats")
        return nats

    return of
