"""How hard the teacher found the tokens of the answers that an analysis looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from trims_core.report.cells import Cell
from trims_core.report.player import Difficulties, unscored

if TYPE_CHECKING:
    from trims_core.store import Artifact

_COLUMNS = ("sample_id", "difficulty_nats")
Nats = Sequence[float | None] | None


def difficulties_of(analysis: Artifact | None) -> Difficulties:
    """A function of a cell and a problem: nats per canvas position, None where the teacher was not asked.

    Args:
        analysis: its info says at which cache and threshold it looked; its files
            teacher/<task>/<model>/difficulty.parquet hold a row per answer.
    """
    if analysis is None:
        return unscored
    point = (analysis.info["cache"], analysis.info["threshold"])
    read: dict[str, dict[str, Nats]] = {}

    def of(cell: Cell, sample_id: str) -> Nats:
        name = f"teacher/{cell.task}/{cell.model}/difficulty.parquet"
        if (cell.cache, cell.threshold) != point or name not in analysis.manifest.entries:
            return None
        if name not in read:
            columns = pq.read_table(analysis.file(name), columns=list(_COLUMNS)).to_pydict()
            read[name] = dict(zip(*(columns[one] for one in _COLUMNS), strict=True))
        return read[name].get(sample_id)

    return of
