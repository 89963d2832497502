"""A graded cell: its accuracy beside the sweep's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trims_core.benchmarks.graders import UNGRADED, VERDICTS
from trims_core.curves import wilson_interval
from trims_core.errors import SweepError
from trims_core.points import point_text


def summarise(swept: Mapping[str, Any], grader: str, chunks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The cell's line in cells.json; accuracies are fractions of all samples, ungraded ones counted as not
    right.

    Args:
        swept: the cell's line in the sweep's cells.json.
        grader: name and version.
        chunks: verdict → samples, per unit.

    Raises:
        SweepError: there are not as many grades as samples.
    """
    verdicts = {verdict: sum(chunk[verdict] for chunk in chunks) for verdict in VERDICTS}
    n = sum(verdicts.values())
    if n != swept["n"]:
        raise SweepError(
            f"{swept['task']} at {point_text(swept['rule'], swept['threshold'])}: {n} grades of {swept['n']}"
            " samples; expected one each. Redo it with --refresh grades"
        )
    low, high = wilson_interval(verdicts["right"], n)
    return {
        **swept,
        "grader": grader,
        "n_correct": verdicts["right"],
        "accuracy": verdicts["right"] / n,
        "wilson_low": low,
        "wilson_high": high,
        "verdicts": verdicts,
    }


def n_ungraded(row: Mapping[str, Any]) -> int:
    """Samples of a cell on which its grader failed."""
    return sum(row["verdicts"][verdict] for verdict in UNGRADED)


def text(row: Mapping[str, Any]) -> str:
    """For messages: `demo at threshold 0.9 with cache dual: 75.0 % at 2.31 tokens per forward`."""
    cache = "" if row["cache"] == "none" else f" with cache {row['cache']}"
    where = f"{row['task']} at {point_text(row['rule'], row['threshold'])}{cache}"
    return f"{where}: {100 * row['accuracy']:.1f} % at {row['tpf']:.2f} tokens per forward"


def table(summaries: Sequence[Mapping[str, Any]]) -> str:
    """The cells as a Markdown table, for the artifact's card."""
    lines = [
        "| task | cache | point | accuracy (95 %) | tokens per forward | tokens/s | unfinished | ungraded"
        " | n |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in summaries:
        point = point_text(row["rule"], row["threshold"])
        interval = f"{100 * row['wilson_low']:.1f}–{100 * row['wilson_high']:.1f}"
        lines.append(
            f"| {row['task']} | {row['cache']} | {point} | {100 * row['accuracy']:.1f} % ({interval})"
            f" | {row['tpf']:.2f} | {row['tokens_per_second']:.0f} | {row['n_unfinished']}"
            f" | {n_ungraded(row)} | {row['n']} |"
        )
    return "\n".join(lines)
