"""A graded cell: its accuracy beside the sweep's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trims_core.benchmarks.graders import UNGRADED, VERDICTS
from trims_core.curves import wilson_interval
from trims_core.errors import SweepError
from trims_core.points import point_text


def summarise(
    swept: Mapping[str, Any],
    graded: Mapping[str, Sequence[Mapping[str, Any]]],
    floors: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The cell's line in cells.json; accuracies are fractions of all samples, ungraded ones counted as not
    right. `graders` holds what each grader says, and the line itself what the first one does.

    Args:
        swept: the cell's line in the sweep's cells.json.
        graded: name and version of each grader, the main one first → verdict → samples, per unit; `parts`
            of answers that are right in parts: right ones and all.
        floors: what parts are right without any thought, by grader.

    Raises:
        SweepError: there are not as many grades as samples.
    """
    graders = {grader: _accuracy(swept, chunks) for grader, chunks in graded.items()}
    for grader, says in (floors or {}).items():
        graders[grader]["floors"] = says
    main = next(iter(graders))
    of_main = {name: value for name, value in graders[main].items() if name not in ("parts", "floors")}
    return {**swept, "grader": main, **of_main, "graders": graders}


def _accuracy(swept: Mapping[str, Any], chunks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    verdicts = {verdict: sum(chunk[verdict] for chunk in chunks) for verdict in VERDICTS}
    n = sum(verdicts.values())
    if n != swept["n"]:
        raise SweepError(
            f"{swept['task']} at {point_text(swept['rule'], swept['threshold'])}: {n} grades of {swept['n']}"
            " samples; expected one each. Redo it with --refresh grades"
        )
    low, high = wilson_interval(verdicts["right"], n)
    parts = [chunk["parts"] for chunk in chunks if "parts" in chunk]
    return {
        **({"parts": [sum(column) for column in zip(*parts, strict=True)]} if parts else {}),
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


def others(row: Mapping[str, Any]) -> str:
    """What the other graders say: `number_flexible 1: 78.5 %`; parts that are right, of any: `cells …`."""
    said = list(row["graders"].items())
    found = [f"{name}: {100 * one['accuracy']:.1f} %" for name, one in said[1:]]
    found += [f"{name}: {parts_text(one)}" for name, one in said if "parts" in one]
    return ", ".join(found) or "–"


def parts_text(said: Mapping[str, Any]) -> str:
    """`12.5 % of 160 parts`."""
    right, n = said["parts"]
    return f"{100 * right / max(n, 1):.1f} % of {n} parts"


def table(summaries: Sequence[Mapping[str, Any]]) -> str:
    """The cells as a Markdown table, for the artifact's card."""
    lines = [
        "| task | cache | point | accuracy (95 %) | other graders | tokens per forward | tokens/s"
        " | unfinished | ungraded | n |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in summaries:
        point = point_text(row["rule"], row["threshold"])
        interval = f"{100 * row['wilson_low']:.1f}–{100 * row['wilson_high']:.1f}"
        lines.append(
            f"| {row['task']} | {row['cache']} | {point} | {100 * row['accuracy']:.1f} % ({interval})"
            f" | {others(row)}"
            f" | {row['tpf']:.2f} | {row['tokens_per_second']:.0f} | {row['n_unfinished']}"
            f" | {n_ungraded(row)} | {row['n']} |"
        )
    return "\n".join(lines)
