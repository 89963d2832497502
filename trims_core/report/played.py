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

    Args:
        tokenizer: of the first run's student; that of another student is loaded.

    Raises:
        ReportError: as `cells.load_cells`.
    """
    runs, first = side_by_side(runs), runs[0].config
    cells, _ = load_cells(runs, partial=first.report.partial)
    difficulties, tokenizers = difficulties_of(Analyses(runs)), _tokenizers(runs, tokenizer)
    found: dict[str, Decoded] = {}
    for run in runs:  # a task is the same in all runs that have it
        tasks = decoded_tasks(run.config, cells, tokenizers, difficulties)
        found |= {task: one for task, one in tasks.items() if task not in found}
    return found


def _tokenizers(runs: Sequence[Run], first: Decodes) -> dict[str, Decodes]:
    """By model, as it is called beside others."""
    from trims_core.rendering import load_tokenizer

    loaded: dict[tuple[str, str | None], Decodes] = {_student(runs[0]): first}
    found: dict[str, Decodes] = {}
    for run in runs:
        if _student(run) not in loaded:
            loaded[_student(run)] = load_tokenizer(*_student(run))
        for model in run.all_shown():
            found[model.name] = loaded[_student(run)]
    return found


def _student(run: Run) -> tuple[str, str | None]:
    return run.config.student.model, run.config.student.revision


def played_samples(runs: Sequence[Run], tokenizer: Decodes) -> dict[str, Any]:
    """What samples.json holds of them, as the first run's settings say."""
    shown = runs[0].config.report
    return samples_of(played_tasks(runs, tokenizer), count=shown.player, size_mb=shown.player_mb)
