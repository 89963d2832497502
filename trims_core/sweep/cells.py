"""The grid of a sweep: one cell per task, cache and decoding point, and the numbers of a finished cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trims_core.config import SweepConfig
from trims_core.curves import tokens_per_forward, wilson_interval
from trims_core.points import CacheName, RuleName, point_text


@dataclass(frozen=True)
class Cell:
    """One task decoded by one model with one cache at one point of a reveal rule."""

    task: str
    cache: CacheName
    rule: RuleName
    threshold: float | None
    """What the rule compares with; None: one token per forward."""

    @property
    def unit(self) -> str:
        """Name in the journal and in file names: `demo-t0.9`, `demo-tone-dual`."""
        name = f"{self.task}-t{'one' if self.threshold is None else format(self.threshold, '.10g')}"
        return name if self.cache == "none" else f"{name}-{self.cache}"

    @property
    def file(self) -> str:
        """The samples' file inside the artifact."""
        return f"cells/{self.unit}.parquet"

    def text(self) -> str:
        """For messages: `demo at threshold 0.9`, `demo at entropy 0.1 nats with cache dual`."""
        point = f"{self.task} at {point_text(self.rule, self.threshold)}"
        return point if self.cache == "none" else f"{point} with cache {self.cache}"


def grid(config: SweepConfig, *, tuned: bool) -> list[Cell]:
    """All cells of a model in the order of the settings; per task and cache the one-token point first, equal
    thresholds once."""
    points: tuple[float | None, ...] = (None, *dict.fromkeys(config.thresholds))
    return [
        Cell(task, cache, config.rule, threshold)
        for task in config.tasks
        for cache in config.caches(tuned=tuned)
        for threshold in points
    ]


def summarise(
    cell: Cell,
    identity: Mapping[str, Any],
    samples: Mapping[str, Sequence[Any]],
    seconds: float,
    conditions: Mapping[str, Any],
) -> dict[str, Any]:
    """The cell's line in cells.json; accuracies are fractions.

    Args:
        identity: model, variant, seed.
        samples: the columns of the cell's table.
        seconds: wall time of decoding alone, without tokenising, grading and writing.
        conditions: batch_size, workers, stop_at_end: what the numbers hold under.
    """
    n, n_correct = len(samples["correct"]), sum(samples["correct"])
    low, high = wilson_interval(n_correct, n)
    tokens, forwards = sum(samples["n_tokens"]), sum(samples["n_forwards"])
    return {
        **identity,
        "task": cell.task,
        "cache": cell.cache,
        "rule": cell.rule,
        "threshold": cell.threshold,
        "n": n,
        "n_correct": n_correct,
        "accuracy": n_correct / n,
        "wilson_low": low,
        "wilson_high": high,
        "tpf": tokens_per_forward(samples["n_tokens"], samples["n_forwards"]),
        "tokens": tokens,
        "forwards": forwards,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "n_unfinished": n - sum(samples["finished"]),
        **conditions,
    }


def table(summaries: Sequence[Mapping[str, Any]]) -> str:
    """The cells as a Markdown table, for the artifact's card."""
    lines = [
        "| task | cache | point | accuracy (95 %) | tokens per forward | tokens/s | unfinished | n |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in summaries:
        point = point_text(row["rule"], row["threshold"])
        interval = f"{100 * row['wilson_low']:.1f}–{100 * row['wilson_high']:.1f}"
        lines.append(
            f"| {row['task']} | {row['cache']} | {point} | {100 * row['accuracy']:.1f} % ({interval})"
            f" | {row['tpf']:.2f} | {row['tokens_per_second']:.0f} | {row['n_unfinished']} | {row['n']} |"
        )
    return "\n".join(lines)
