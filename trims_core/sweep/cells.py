"""The grid of a sweep: one cell per task, cache and decoding point, and the numbers of a finished cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trims_core.points import CacheName, RuleName, point_text
from trims_core.sweep.settings import SweepSettings


@dataclass(frozen=True)
class Cell:
    """One task decoded by one model with one cache at one point of a reveal rule."""

    task: str
    cache: CacheName
    rule: RuleName
    threshold: float | None
    """What the rule compares with; None: one token per forward."""

    @property
    def name(self) -> str:
        """Beginning of its units' names: `demo-t0.9`, `demo-tone-dual`."""
        name = f"{self.task}-t{'one' if self.threshold is None else format(self.threshold, '.10g')}"
        return name if self.cache == "none" else f"{name}-{self.cache}"

    def text(self) -> str:
        """For messages: `demo at threshold 0.9`, `demo at entropy 0.1 nats with cache dual`."""
        point = f"{self.task} at {point_text(self.rule, self.threshold)}"
        return point if self.cache == "none" else f"{point} with cache {self.cache}"


def grid(chosen: SweepSettings) -> list[Cell]:
    """All cells of a model in the order of the settings; per task and cache the one-token point first."""
    return [
        Cell(task, cache, chosen.rule, threshold)
        for task in chosen.tasks
        for cache in chosen.caches
        for threshold in (None, *chosen.thresholds)
    ]


def chunk_notes(samples: Mapping[str, Sequence[Any]], seconds: float) -> dict[str, Any]:
    """What a unit notes of its samples, to be summed over a cell.

    Args:
        samples: the columns of its table.
        seconds: wall time of decoding alone, without tokenising and writing.
    """
    return {
        "n": len(samples["finished"]),
        "tokens": sum(samples["n_tokens"]),
        "forwards": sum(samples["n_forwards"]),
        "n_unfinished": samples["finished"].count(False),
        "seconds": seconds,
    }


def summarise(
    cell: Cell, chunks: Mapping[str, Mapping[str, Any]], conditions: Mapping[str, Any]
) -> dict[str, Any]:
    """The cell's line in cells.json.

    Args:
        chunks: unit name → what it noted: n, tokens, forwards, n_unfinished, seconds, batch_size, workers.
        conditions: what the numbers hold under, beside the chunks' own.
    """
    noted = list(chunks.values())
    total = {
        name: sum(one[name] for one in noted)
        for name in ("n", "tokens", "forwards", "n_unfinished", "seconds")
    }
    return {
        "task": cell.task,
        "cache": cell.cache,
        "rule": cell.rule,
        "threshold": cell.threshold,
        **total,
        "tpf": total["tokens"] / total["forwards"],
        "tokens_per_second": total["tokens"] / total["seconds"],
        "batch_sizes": sorted({one["batch_size"] for one in noted}),
        "workers": sorted({one["workers"] for one in noted}),
        **conditions,
        "units": list(chunks),
    }


def table(summaries: Sequence[Mapping[str, Any]]) -> str:
    """The cells as a Markdown table, for the artifact's card."""
    lines = [
        "| task | cache | point | tokens per forward | tokens/s | unfinished | n |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in summaries:
        point = point_text(row["rule"], row["threshold"])
        lines.append(
            f"| {row['task']} | {row['cache']} | {point} | {row['tpf']:.2f}"
            f" | {row['tokens_per_second']:.0f} | {row['n_unfinished']} | {row['n']} |"
        )
    return "\n".join(lines)
