"""Why methods decode as they do, on one task at one point: what results.json says of the analysis' tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trims_core.points import point_text
from trims_core.report.analysed import Analysed, Analyses, analysed_cells, by_method
from trims_core.report.calibration import calibration_of
from trims_core.report.cells import Cell
from trims_core.report.changed import changed_of
from trims_core.report.resampling import resample_counts
from trims_core.report.reveal_order import order_of
from trims_core.report.text_table import DASH, TextTable
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


def analysis_table(task: str, found: Mapping[str, Any]) -> TextTable | None:
    """Order, calibration and the NLL of half-revealed states, a row per method."""
    about = found["analysis"]
    if about is None:
        return None
    rows = []
    for name, order in about["order"].items():
        calibration, departure = about["calibration"][name], order["departure"]
        rows.append(
            (
                name,
                *(_stat(order[kind]) for kind in ("position", "confidence", "difficulty")),
                f"{departure['n_departed']} of {departure['n_wrong']}",
                *(DASH if one is None else f"{one:.3f}" for one in _eces(calibration)),
                *_half_revealed(about["trajectories"].get(name)),
            )
        )
    header = ["method", "order: position", "confidence", "difficulty", "not right: departed"]
    header += ["ECE of tokens", "of answers", "NLL half revealed, nats", "half filled, nats"]
    return TextTable(_caption(task, about), tuple(header), tuple(rows))


def _caption(task: str, about: Mapping[str, Any]) -> str:
    text = (
        f"{task} at {point_text(about['rule'], about['threshold'])}: rank correlation of a token's reveal"
        " step with its position, confidence and difficulty [95 %]; answers that are not right and leave the"
        " answer of one token per forward; expected calibration error of confidence"
    )
    if about["teacher"] is None:
        return f"{text}. No difficulty and no NLL: {about['without_teacher']}"
    return (
        f"{text}; mean NLL per token under {about['teacher']} (n = {about['n']}) of the first states with at"
        " least half of the answer revealed: of the revealed tokens, and with the rest filled by the student"
    )


def _stat(stat: Mapping[str, float] | None) -> str:
    return DASH if stat is None else f"{stat['mean']:.2f} [{stat['low']:.2f}, {stat['high']:.2f}]"


def _eces(calibration: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return calibration["ece"], calibration["answers"]["ece"]


def _half_revealed(curves: Mapping[str, Any] | None) -> tuple[str, str]:
    """NLL of the revealed tokens and of the filled canvas, where half of the answer is revealed."""
    if curves is None:
        return DASH, DASH
    (half,) = (row for row in curves["by_share"] if row["x"] == 0.5)
    shown = [
        None
        if half[f"{kind}_nats"] is None
        else {"mean": half[f"{kind}_nats"], "low": half[f"{kind}_low"], "high": half[f"{kind}_high"]}
        for kind in ("revealed", "filled")
    ]
    return _stat(shown[0]), _stat(shown[1])
