"""The grid of a sweep: one cell per task, cache and decoding point, and the numbers of a finished cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trims_core.points import CacheName, RuleName, point_text
from trims_core.sweep.settings import SweepSettings

SKIPPED: Final = 10
"""Samples that d3LLM's counting leaves out, as warm-up."""
CONDITIONS: Final = ("device", "dtype", "torch", "cuda", "masks_pads")
"""What numbers depend on beside settings and weights, as units note it."""


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


def chunk_notes(
    samples: Mapping[str, Sequence[Any]], seconds: float, prompt_lengths: Sequence[int]
) -> dict[str, Any]:
    """What a unit notes of its samples, to be summed over a cell.

    Args:
        samples: the columns of its table.
        seconds: wall time of decoding alone, without tokenising and writing.
        prompt_lengths: tokens of each prompt.
    """
    return {
        **_sums(samples, slice(None)),
        "n": len(samples["finished"]),
        "n_unfinished": samples["finished"].count(False),
        "seconds": seconds,
        "tokens_prompt": sum(prompt_lengths),
        "first_ten": _sums(samples, slice(SKIPPED)),
    }


def _sums(samples: Mapping[str, Sequence[Any]], rows: slice) -> dict[str, int]:
    counted = ("tokens", "tokens_canvas", "tokens_text", "forwards")
    return {name: sum(samples[f"n_{name}"][rows]) for name in counted}


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
    counted = _other_countings(noted)
    return {
        "task": cell.task,
        "cache": cell.cache,
        "rule": cell.rule,
        "threshold": cell.threshold,
        **total,
        "tpf": total["tokens"] / total["forwards"],
        **({} if counted is None else {"tpf_as": counted}),
        "tokens_per_second": total["tokens"] / total["seconds"],
        "batch_sizes": sorted({one["batch_size"] for one in noted}),
        "workers": sorted({one["workers"] for one in noted}),
        "machines": _machines(noted),
        **conditions,
        "units": list(chunks),
    }


def _other_countings(noted: Sequence[Mapping[str, Any]]) -> dict[str, float | None] | None:
    """Tokens per forward as other programs count them; None where a unit was noted before they were.

    canvas: every position of the canvas; text: the answer tokenised again; prompt: every position but end
    tokens, the prompt's among them; text_after_ten: text without the first ten samples (None: no others).
    """
    if any("tokens_prompt" not in one for one in noted):
        return None
    total = {
        name: sum(one[name] for one in noted) for name in ("tokens_canvas", "tokens_text", "tokens_prompt")
    }
    forwards, first = sum(one["forwards"] for one in noted), noted[0]["first_ten"]
    later = forwards - first["forwards"]
    return {
        "canvas": total["tokens_canvas"] / forwards,
        "text": total["tokens_text"] / forwards,
        "prompt": (total["tokens_text"] + total["tokens_prompt"]) / forwards,
        "text_after_ten": (total["tokens_text"] - first["tokens_text"]) / later if later else None,
    }


def _machines(noted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the units were decoded on, each once; a unit that does not say is left out."""
    found = [{name: one[name] for name in CONDITIONS} for one in noted if "device" in one]
    return [one for place, one in enumerate(found) if one not in found[:place]]


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
