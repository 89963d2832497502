"""The rows of an ablation: for every value of every factor its accuracy, and the difference to the base.

All numbers are those of the comparison that they stand in; nothing is estimated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trims_core.report.contrast_tables import (
    BOTH,
    PROBLEMS,
    WORDS,
    kind_of_levels,
    level_text,
    n_adjusted,
    where_text,
)
from trims_core.report.text_table import DASH, TextTable
from trims_core.report.verdicts import interval_text, judged, p_text, signed

if TYPE_CHECKING:
    from trims_core.ablations import Ablation

Found = Mapping[str, Any]


def ablation_results(ablation: Ablation, results: Found) -> dict[str, Any]:
    """`base` (its label) and `rows`: factor, value, label and method's name of the arm, whether it is the
    base, and by task its accuracy where methods are judged (`contrast_tables.where_text`), and the difference
    to the base (null: the base itself, or an arm without cells).

    Args:
        results: of all arms side by side.
    """
    names = {run["label"]: run["methods"][ablation.method] for run in results["runs"]}
    base = ablation.arms[0].label
    rows = [
        {
            "factor": setting.factor,
            "value": setting.value,
            "label": setting.label,
            "method": names[setting.label],
            "is_base": names[setting.label] == names[base],
            "tasks": {
                task: _numbers(found, names[setting.label], names[base])
                for task, found in results["tasks"].items()
            },
        }
        for setting in ablation.settings
    ]
    return {"base": base, "method": ablation.method, "mode": ablation.mode, "rows": rows}


def _numbers(found: Found, method: str, base: str) -> dict[str, Any]:
    pair = next((one for one in found["comparisons"] if (one["a"], one["b"]) == (method, base)), None)
    numbers = found["numbers"].get(method, {})  # a partial report may lack all of an arm
    return {
        "accuracy": judged(numbers) if numbers else None,
        "difference": None if pair is None else judged(pair),
        "verdict": None if pair is None else pair["verdict"],
    }


def ablations_table(task: str, results: Found) -> TextTable:
    """A row per factor and value: accuracy at equal tokens per forward, and the difference to the base."""
    found, ablations = results["tasks"][task], results["ablations"]
    kind = kind_of_levels(found)
    rows = []
    for row in ablations["rows"]:
        numbers = row["tasks"][task]
        name = f"{row['factor']}: {row['value']}" + (" (base)" if row["is_base"] else "")
        seeds = (numbers["accuracy"] or {"by_seed": {}})["by_seed"].values()
        by_seed = ", ".join(f"{100 * value:.1f}" for value in seeds) or DASH
        accuracy = level_text(numbers["accuracy"], kind)
        rows.append(
            (name, accuracy, by_seed, *_difference(numbers["difference"]), numbers["verdict"] or DASH)
        )
    n_tested = n_adjusted(found)
    corrected = (
        f"; p belongs to the interval {WORDS[BOTH]}, adjusted (Holm) over the {n_tested} means and levels of"
        " all arms"
    )
    says = "every combination of values" if ablations["mode"] == "grid" else "one value changed"
    caption = (
        f"{task}: {ablations['method']} with {says} (n = {found['n']}; accuracy in %,"
        f" {where_text(found)}, [95 %] {WORDS[kind]}), and the difference to the base in points, on the same"
        f" problems and equal seeds {corrected if n_tested else ''}"
    )
    return TextTable(
        caption,
        (
            "factor: value",
            "accuracy",
            "by seed",
            "− base",
            f"[95 %] {WORDS[PROBLEMS]}",
            f"[95 %] {WORDS[BOTH]}",
            "p (Holm)",
            "verdict",
        ),
        tuple(rows),
    )


def _difference(row: Found | None) -> tuple[str, str, str, str]:
    if row is None:
        return (DASH,) * 4
    return (
        signed(row["value"]),
        interval_text(row[PROBLEMS]),
        DASH if row[BOTH] is None else interval_text(row[BOTH]),
        p_text(row["p_holm"]) if "p_holm" in row else DASH,
    )
