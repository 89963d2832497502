"""Why methods decode as they do, on one task at one point: what results.json says of the analysis' tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trims_core.report.analysed import Analysed, Analyses, analysed_cells, by_method
from trims_core.report.calibration import calibration_of
from trims_core.report.cells import Cell
from trims_core.report.changed import changed_of
from trims_core.report.resampling import resample_counts
from trims_core.report.reveal_order import order_of
from trims_core.report.trajectories import trajectories_of


def analysis_of(
    analyses: Analyses,
    task: str,
    cells: Sequence[Cell],
    pairs: Sequence[tuple[str, str]],
    buckets: Mapping[str, Any] | None,
    bootstrap_samples: int,
) -> dict[str, Any] | None:
    """One task's part of the analysis; None where no cell was looked at.

    Args:
        cells: all of the task with the main cache, over the same problems.
        pairs: methods whose answers are compared problem by problem.
        buckets: as results.json has them.
    """
    methods = by_method(analysed_cells(analyses, cells))
    if not methods or (info := analyses.info) is None:
        return None
    some = next(iter(next(iter(methods.values())).values()))
    n_shown = len(some.difficulties)
    counts_RN = resample_counts(some.cell.n, bootstrap_samples, task)
    counts_RM = resample_counts(n_shown, bootstrap_samples, f"{task}: trajectories") if n_shown else counts_RN
    return {
        "threshold": info["threshold"],
        "rule": info["rule"],
        "n": n_shown,
        "teacher": info["teacher"],
        "without_teacher": info["without_teacher"],
        "n_not_scored": sum(_n_not_scored(model) for models in methods.values() for model in models.values()),
        "trajectories": {
            name: trajectories_of(models, counts_RM) for name, models in methods.items() if n_shown
        },
        "order": {name: order_of(models, counts_RN, counts_RM) for name, models in methods.items()},
        "calibration": {name: calibration_of(models.values(), buckets) for name, models in methods.items()},
        "changed": changed_of(pairs, methods),
    }


def _n_not_scored(model: Analysed) -> int:
    """Texts that the teacher refused, of states and answers."""
    states = [state for rows in model.states.values() for state in rows]
    kinds = ("revealed_reject", "filled_reject")
    of_states = sum(state[kind] is not None for state in states for kind in kinds)
    return of_states + sum(row["reject"] is not None for row in model.difficulties.values())
