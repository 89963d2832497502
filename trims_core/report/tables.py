"""The report's tables: as rows of ready text (for the page) and as Markdown (table.md).

Accuracies are percent with a 95 % interval; differences carry a sign; a dash stands where there is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from trims_core.points import MEANINGS, RuleName, parallelism_order, point_text
from trims_core.report.comparison import interval_text

DASH: Final = "–"
_CACHE_SAYS: Final = {
    "none": "every forward sees the canvas as it is, which is exact",
    "prefix": "columns before the current block keep the keys and values they had when it began",
    "dual": "columns outside the current block keep the keys and values they had when it began",
}
_POINT_UNITS: Final = "accuracy with [95 %], TPF = tokens per forward, tokens/s: decoding time only"


@dataclass(frozen=True)
class TextTable:
    """A caption, a header and rows of text; the first column names the row."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """A GitHub table under its caption."""
        lines = [self.caption, "", _line(self.header), _line(["---"] + ["---:"] * (len(self.header) - 1))]
        return "\n".join([*lines, *(_line(row) for row in self.rows)]) + "\n"


def threshold_text(threshold: float | None) -> str:
    """`0.9`, or `one` for one token per forward."""
    return "one" if threshold is None else f"{threshold:g}"


def between(row: Mapping[str, float], digits: int = 1, scale: float = 100.0) -> str:
    """`73.5 [67.0, 79.2]` of a value (or accuracy) with low and high."""
    value = row["value"] if "value" in row else row["accuracy"]
    low, high = row["low"], row["high"]
    return f"{scale * value:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def decoding_text(found: Mapping[str, Any]) -> str:
    """With which rule and cache the curves of a task were decoded, and what the cache approximates."""
    text = f"Curves and comparisons are decoded with rule {found['rule']}: a forward reveals"
    text += f" {MEANINGS[found['rule']].says}. Cache {found['cache']}: {_CACHE_SAYS[found['cache']]}."
    if found["cache"] == "none":
        return text
    shown = " The table of caches shows what that does to the untuned student." if found["caches"] else ""
    return f"{text} That is faster and approximate.{shown}"


def points_table(task: str, found: Mapping[str, Any]) -> TextTable:
    """Accuracy, tokens per forward and tokens per second of every method at every point."""
    seeds = max(point["n_seeds"] for points in found["curves"].values() for point in points)
    averaged = f", means of {seeds} seeds" if seeds > 1 else ""
    caption = (
        f"{task}: every method at every point (n = {found['n']}{averaged}; {_POINT_UNITS}, {_load(found)})"
    )
    return _points_grid(caption, found["curves"], found["rule"])


def caches_table(task: str, found: Mapping[str, Any]) -> TextTable:
    """The same of the untuned student with every cache."""
    caption = (
        f"{task}: the untuned student with every cache (n = {found['n']}; {_POINT_UNITS}, {_load(found)});"
        " none is exact, prefix and dual approximate"
    )
    return _points_grid(caption, found["caches"], found["rule"])


def _points_grid(
    caption: str, curves: Mapping[str, Sequence[Mapping[str, Any]]], rule: RuleName
) -> TextTable:
    """A row per point, three columns per curve."""
    by_point = {name: {point["threshold"]: point for point in points} for name, points in curves.items()}
    thresholds = sorted(set().union(*by_point.values()), key=partial(parallelism_order, rule))
    header = ["point"]
    for name in curves:
        header += [f"{name}: accuracy, %", "TPF", "tokens/s"]
    rows = []
    for threshold in thresholds:
        row = [point_text(rule, threshold)]
        for points in by_point.values():
            row += _point_texts(points.get(threshold))
        rows.append(tuple(row))
    return TextTable(caption, tuple(header), tuple(rows))


def _point_texts(point: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if point is None:
        return (DASH, DASH, DASH)
    return (between(point), f"{point['tpf']:.2f}", f"{point['tokens_per_second']:.0f}")


def _load(found: Mapping[str, Any]) -> str:
    """Under what load the tokens per second hold: `batch × threads 8 × 2`."""
    loads = dict.fromkeys(f"{cell['batch_size']} × {cell['workers']}" for cell in found["cells"])
    return f"batch × threads {', '.join(loads)}"


def methods_table(task: str, found: Mapping[str, Any]) -> TextTable:
    """AUP, accuracy at one token per forward and at equal tokens per forward, per method."""
    levels = found["equal_tpf"]["levels"]
    rows = []
    for name, points in found["curves"].items():
        one = next((point for point in points if point["threshold"] is None), None)
        at = found["equal_tpf"]["accuracy"][name]
        seeds = found["aup"][name]["by_seed"]
        rows.append(
            (
                name,
                str(max(point["n_seeds"] for point in points)) if seeds else DASH,
                between(found["aup"][name], 0, 1.0),
                ", ".join(f"{value:.0f}" for value in seeds.values()) if len(seeds) > 1 else DASH,
                DASH if one is None else between(one),
                *(between(row) for row in at),
            )
        )
    spread = any(row[3] != DASH for row in rows)
    header: tuple[str, ...] = ("method", "seeds", "AUP", "AUP by seed", "accuracy, one token per forward")
    header += tuple(f"at {level:g} per forward" for level in levels)
    if not spread:
        header, rows = _without(header, 3), [_without(row, 3) for row in rows]
    return TextTable(
        f"{task}: methods (n = {found['n']}; accuracy in %, interpolated between points of a curve; [95 %])",
        header,
        tuple(rows),
    )


def differences_table(task: str, found: Mapping[str, Any]) -> TextTable:
    """Paired differences of methods on the same problems."""
    levels = found["equal_tpf"]["levels"]
    rows = []
    for pair in found["comparisons"]:
        one = pair["one_token_per_forward"]
        rows.append(
            (
                f"{pair['a']} − {pair['b']}",
                pair["verdict"],
                interval_text(pair["aup"], 0),
                DASH if one is None else interval_text(one, 1, 100.0),
                *(interval_text(row, 1, 100.0) for row in pair["at_level"]),
            )
        )
    header: tuple[str, ...] = ("difference", "verdict", "AUP", "points, one token per forward")
    header += tuple(f"points at {level:g} per forward" for level in levels)
    return TextTable(
        f"{task}: differences on the same {found['n']} problems (paired bootstrap,"
        f" {found['bootstrap_samples']} resamples, [95 %]; the verdict is AUP's)",
        header,
        tuple(rows),
    )


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
    return TextTable(
        f"{task}: all cells (TPF = tokens up to and including the first end token / forwards; {stopped};"
        f" canvas {found['gen_length']}, blocks of {found['block_length']}; rule {found['rule']}, cache"
        f" {found['cache']}; tokens/s: decoding time only)",
        ("model", "threshold", "n", "accuracy, %", "TPF", "tokens/s", "batch × threads", "unfinished"),
        rows,
    )


def stages_table(results: Mapping[str, Any]) -> TextTable:
    """Seconds and counts of every artifact the report is made from."""
    rows = []
    for row in results["stages"]:
        counts = row["counts"]
        others = {k: v for k, v in counts.items() if k not in ("n_in", "n_out", "n_rejected")}
        rows.append(
            (
                row["node"],
                f"{row['seconds']:.1f}",
                *(f"{counts[k]:,}" if k in counts else DASH for k in ("n_in", "n_out", "n_rejected")),
                ", ".join(f"{k} {v:,}" for k, v in others.items()) or DASH,
                row["fingerprint"][:12],
            )
        )
    total = sum(row["seconds"] for row in results["stages"])
    return TextTable(
        f"Stages: {total:.0f} s in all when nothing is cached",
        ("artifact", "seconds", "rows in", "rows out", "rejected", "other counts", "fingerprint"),
        tuple(rows),
    )


def sentences(results: Mapping[str, Any]) -> list[str]:
    """The verdict on every pair of methods, task by task."""
    return [pair["sentence"] for found in results["tasks"].values() for pair in found["comparisons"]]


def table_markdown(results: Mapping[str, Any]) -> str:
    """table.md: findings, what limits them, and the tables."""
    parts = [f"# {results['title']}\n"]
    for heading, lines in (("Findings", sentences(results)), ("What limits them", results["caveats"])):
        if lines:
            parts.append(f"## {heading}\n\n" + "\n".join(f"- {line}" for line in lines) + "\n")
    for task, found in results["tasks"].items():
        tables = [methods_table(task, found), points_table(task, found)]
        tables += [caches_table(task, found)] if found["caches"] else []
        tables += [differences_table(task, found)] if found["comparisons"] else []
        tables.append(cells_table(task, found))
        parts.append(
            f"## {task}\n\n{decoding_text(found)}\n\n" + "\n".join(table.markdown() for table in tables)
        )
    parts.append("## Stages\n\n" + stages_table(results).markdown())
    return "\n".join(parts)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _without(row: tuple[str, ...], index: int) -> tuple[str, ...]:
    return row[:index] + row[index + 1 :]
