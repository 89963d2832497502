"""Tables with a row per cell: accuracies by every grader, counts as others count, latency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from trims_core.benchmarks.graders import UNGRADED
from trims_core.report.text_table import DASH, TextTable

COUNTINGS: Final = {
    "canvas": "all positions of the canvas (TABOM)",
    "text": "the answer tokenised again, without end tokens (Fast-dLLM, d3LLM)",
    "prompt": "that and the prompt (Fast-dLLM's HumanEval)",
    "text_after_ten": "the answer tokenised again, without the first ten samples (d3LLM)",
}
"""What is divided by the forwards → what it means and who counts so."""


def threshold_text(threshold: float | None) -> str:
    """`0.9`, or `one` for one token per forward."""
    return "one" if threshold is None else f"{threshold:g}"


def between(row: Mapping[str, Any]) -> str:
    """`73.5 [67.0, 79.2]` of an accuracy with low and high, in percent."""
    accuracy, low, high = (100 * row[name] for name in ("accuracy", "low", "high"))
    return f"{accuracy:.1f} [{low:.1f}, {high:.1f}]"


def cells_table(task: str, found: Mapping[str, Any]) -> TextTable:
    """Every cell of a task."""
    rows = tuple(
        (
            cell["model"],
            threshold_text(cell["threshold"]),
            str(cell["n"]),
            between(cell),
            f"{cell['tpf']:.2f}",
            f"{cell['tokens_per_second']:.0f}",
            f"{cell['batch_size']} × {cell['workers']}",
            str(cell["n_unfinished"]),
        )
        for cell in found["cells"]
    )
    stopped = "decoding stops at the end token" if found["stop_at_end"] else "the whole canvas is decoded"
    judged = f"accuracy by {found['grader']}; " if found["grader"] else ""
    return TextTable(
        f"{task}: all cells ({judged}TPF = tokens up to and including the first end token / forwards;"
        f" {stopped}; canvas {found['gen_length']}, blocks of {found['block_length']}; rule {found['rule']},"
        f" cache {found['cache']}; tokens/s: decoding time only)",
        ("model", "threshold", "n", "accuracy, %", "TPF", "tokens/s", "batch × threads", "unfinished"),
        rows,
    )


def further_tables(task: str, found: Mapping[str, Any]) -> Iterator[tuple[str, TextTable]]:
    """The tables that there is something for, with their names: graders, countings, checks."""
    cells = found["cells"]
    if any(len(cell["graders"]) > 1 for cell in cells):
        yield "graders", _graders(task, cells)
    if any(cell["tpf_as"] for cell in cells):
        yield "countings", _countings(task, cells)
    if any(cell["check"] or cell["latency"] for cell in cells):
        yield "one-at-a-time", _latencies(task, cells)


def _graders(task: str, cells: list[Mapping[str, Any]]) -> TextTable:
    names = list(dict.fromkeys(name for cell in cells for name in cell["graders"]))
    rows = [
        (
            cell["model"],
            threshold_text(cell["threshold"]),
            str(cell["n"]),
            *(_judged(cell["graders"].get(name)) for name in names),
        )
        for cell in cells
    ]
    floors = dict.fromkeys(one["floors"] for one in cells[0]["graders"].values() if one.get("floors"))
    caption = f"{task}: the same answers by every grader, accuracy in % (the first one counts)"
    caption += "".join(f". {says}" for says in floors)
    return TextTable(caption, ("model", "threshold", "n", *names), tuple(rows))


def _judged(said: Mapping[str, Any] | None) -> str:
    if said is None:
        return DASH
    failed = sum(said.get("verdicts", {}).get(name, 0) for name in UNGRADED)
    right, n = said.get("parts", (0, 0))
    parts = f"; {100 * right / n:.1f} of {n} parts" if n else ""
    return f"{100 * said['accuracy']:.1f}{parts}" + (f" ({failed} not graded)" if failed else "")


def _countings(task: str, cells: list[Mapping[str, Any]]) -> TextTable:
    rows = []
    for cell in cells:
        counted = cell["tpf_as"] or {}
        others = (DASH if counted.get(name) is None else f"{counted[name]:.2f}" for name in COUNTINGS)
        rows.append((cell["model"], threshold_text(cell["threshold"]), f"{cell['tpf']:.2f}", *others))
    caption = f"{task}: tokens per forward as others count them, to set beside their numbers; ours is TPF"
    return TextTable(caption, ("model", "threshold", "TPF", *COUNTINGS.values()), tuple(rows))


def _latencies(task: str, cells: list[Mapping[str, Any]]) -> TextTable:
    rows = []
    for cell in cells:
        check = cell["check"] or {}
        latency = check.get("latency") or cell["latency"]
        if not latency:
            continue
        changed = f"{check['n_changed']} of {check['n']}" if check else DASH
        times = (f"{latency['p50_s']:.2f}", f"{latency['p95_s']:.2f}")
        rows.append((cell["model"], threshold_text(cell["threshold"]), changed, *times))
    header = ("model", "threshold", "other tokens than in batches", "p50, s", "p95, s")
    return TextTable(
        f"{task}: one answer at a time: what batching changed, seconds per answer", header, tuple(rows)
    )
