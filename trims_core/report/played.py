"""What the player can show of one run, or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trims_core.report.analysed import Analyses
from trims_core.report.cells import load_cells
from trims_core.report.examples import Decodes
from trims_core.report.player import Decoded, decoded_tasks, samples_of
from trims_core.report.runs import Run, side_by_side
from trims_core.report.token_difficulty import difficulties_of


def played_tasks(runs: Sequence[Run], tokenizer: Decodes) -> dict[str, Decoded]:
    """By task; points are those that the methods of all runs have.

    Raises:
        ReportError: as `cells.load_cells`.
    """
    runs, config = side_by_side(runs), runs[0].config
    cells, _ = load_cells(runs, partial=config.report.partial)
    return decoded_tasks(config, cells, tokenizer, difficulties_of(Analyses(runs)))


def played_samples(runs: Sequence[Run], tokenizer: Decodes) -> dict[str, Any]:
    """What samples.json holds of them, as the first run's settings say."""
    shown = runs[0].config.report
    return samples_of(played_tasks(runs, tokenizer), count=shown.player, size_mb=shown.player_mb)
