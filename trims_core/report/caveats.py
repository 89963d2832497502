"""Plain sentences about where the numbers are weak, from the results themselves.

The verdicts on pairs of methods stand with their comparison; here is what limits all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from trims_core.points import MEANINGS, point_text
from trims_core.report.protocols import warnings_of

_WIDE_POINTS: Final = 3.0
"""A half-width of more percentage points than this is worth a sentence."""
_UNFINISHED_FRACTION: Final = 0.05
_FLOOR_ACCURACY: Final = 0.05
_LEAST_EXTENT: Final = 1.1
"""Ratio of a curve's ends in tokens per forward below which it is a point."""
_AUP_DROP_POINTS: Final = 5.0
"""AUP leaves out points so far below the least parallel one (its definition)."""


def caveats_of(results: Mapping[str, Any]) -> list[str]:
    """The sentences, most important first; empty if nothing limits the results."""
    out = [*_incomplete(results["coverage"]), *warnings_of(results), *_one_seed(results["methods"])]
    for task, found in results["tasks"].items():
        out += [
            *levels_left_out(task, found),
            *_small_n(task, found),
            *_at_floor(task, found),
            *_unfinished(task, found),
            *_ungraded(task, found),
            *_flat(task, found),
        ]
        out += [*_left_out_of_aup(task, found), *_batch_sizes(task, found)]
    return [*out, *_ties(results["buckets"]), *_rejected(results["stages"]), *_of_one_run(results)]


def percent(fraction: float, digits: int = 1) -> str:
    """`73.5 %`."""
    return f"{100 * fraction:.{digits}f} %"


def _incomplete(coverage: Mapping[str, Any]) -> Iterator[str]:
    missing = coverage["missing"]
    if missing:
        found, expected = coverage["cells_found"], coverage["cells_expected"]
        shown = "; ".join(missing[:6]) + (f"; and {len(missing) - 6} more" if len(missing) > 6 else "")
        yield f"Partial report: {found} of {expected} cells. Missing: {shown}."
    for text in coverage["reduced"]:
        yield f"Partial report: {text}."


def _one_seed(methods: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    tuned = [method for method in methods if method["seeds"]]
    if tuned and len(set(tuned[0]["seeds"])) == 1:
        yield (
            "One training seed per method: intervals over problems do not cover the luck of a training run."
            " Repeat with more seeds (train.seeds) before believing an order of the tuned methods."
        )


def levels_left_out(task: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Which configured levels could not be shown, and because of which model."""
    where = found["equal_tpf"]
    reasons = []
    for one in where["left_out"]:
        says = "is at" if one["end"] == "slowest" else "reaches"
        reasons.append(
            f"{one['tpf']:g} (the {one['end']} threshold of {one['model']} {says} {one['at']:.2f})"
        )
    if reasons:
        yield f"{task}: no comparison at these tokens per forward of report.levels: {'; '.join(reasons)}."
    if where["range"] is None and not where["forwards"]:
        yield (
            f"{task}: the methods share no range of tokens per forward from their slowest threshold to their"
            " fastest, so there is no mean and no verdict; add thresholds (sweep.thresholds)."
        )
    elif reasons and where["automatic"] and where["levels"]:
        shown = ", ".join(f"{level:g}" for level in where["levels"])
        yield f"{task}: none of report.levels lies where all methods were decoded; shown instead: {shown}."


def _small_n(task: str, found: Mapping[str, Any]) -> Iterator[str]:
    widest = max((c["high"] - c["low"], c["accuracy"]) for c in found["cells"])
    half_width = 50 * widest[0]
    if half_width > _WIDE_POINTS:
        yield (
            f"{task}: n = {found['n']} problems, so one accuracy is known to about ± {half_width:.1f} points"
            " (95 %); overlapping intervals do not order two methods."
        )


def _at_floor(task: str, found: Mapping[str, Any]) -> Iterator[str]:
    best = found["y_max_percent"] / 100
    if best < _FLOOR_ACCURACY:
        yield (f"{task}: the best accuracy is {percent(best)}; there the curves say nothing about methods.")


def _unfinished(task: str, found: Mapping[str, Any]) -> Iterator[str]:
    worst = max(found["cells"], key=lambda cell: cell["n_unfinished"] / cell["n"])
    if worst["n_unfinished"] > _UNFINISHED_FRACTION * worst["n"]:
        total = sum(cell["n_unfinished"] for cell in found["cells"])
        answers = sum(cell["n"] for cell in found["cells"])
        at = point_text(found["rule"], worst["threshold"])
        yield (
            f"{task}: {total} of {answers} answers have no end token within {found['gen_length']} positions;"
            f" most with {worst['model']} at {at} ({worst['n_unfinished']} of {worst['n']})."
        )


def _ungraded(task: str, found: Mapping[str, Any]) -> Iterator[str]:
    worst = max(found["cells"], key=lambda cell: cell["n_ungraded"])
    total = sum(cell["n_ungraded"] for cell in found["cells"])
    if total:
        answers = sum(cell["n"] for cell in found["cells"])
        at = point_text(found["rule"], worst["threshold"])
        yield (
            f"{task}: {total} of {answers} answers could not be graded (the grader failed or took too long)"
            f" and count as not right; most with {worst['model']} at {at} ({worst['n_ungraded']} of"
            f" {worst['n']})."
        )


def _flat(task: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Silent where a curve has no extent, or no accuracy that could fall."""
    further = "higher" if MEANINGS[found["rule"]].rising else "lower"
    for name, points in found["curves"].items():
        by_tpf = sorted(points, key=lambda point: point["tpf"])
        extent = by_tpf[-1]["tpf"] / by_tpf[0]["tpf"]
        if by_tpf[0]["accuracy"] < _FLOOR_ACCURACY or extent < _LEAST_EXTENT:
            continue
        if by_tpf[-1]["high"] >= by_tpf[0]["low"]:
            yield (
                f"{task}: the accuracy of {name} does not fall measurably from {by_tpf[0]['tpf']:.1f} to"
                f" {by_tpf[-1]['tpf']:.1f} tokens per forward; {further} thresholds would show where it does."
            )


def _left_out_of_aup(task: str, found: Mapping[str, Any]) -> Iterator[str]:
    counted = []
    for name, points in found["curves"].items():
        least = min(points, key=lambda point: point["tpf"])["accuracy"]
        kept = sum(100 * point["accuracy"] >= 100 * least - _AUP_DROP_POINTS for point in points)
        if kept < len(points):
            counted.append(f"{name} {kept} of {len(points)}")
    if counted:
        yield (
            f"{task}: AUP counts only points at most {_AUP_DROP_POINTS:g} points below a method's least"
            f" parallel one: {', '.join(counted)}. A method that starts lower keeps more of its points."
        )


def _batch_sizes(task: str, found: Mapping[str, Any]) -> Iterator[str]:
    sizes = sorted({size for cell in found["cells"] for size in cell["batch_sizes"]})
    if len(sizes) > 1:
        yield f"{task}: cells were decoded in batches of {sizes}; their tokens per second cannot be compared."


def _ties(buckets: Mapping[str, Any] | None) -> Iterator[str]:
    if buckets is None:
        return
    n_zero, n_tokens, k = buckets["n_zero"], buckets["n_tokens"], buckets["k"]
    if k > 1 and n_zero * k > n_tokens:
        yield (
            f"{percent(n_zero / n_tokens)} of the answer tokens have a difficulty of exactly 0 nats, more"
            " than one bucket holds: among them the bucket is decided by a hash."
        )


def _rejected(stages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in stages:
        rejected, n_in = row["counts"].get("n_rejected", 0), row["counts"].get("n_in")
        if rejected:
            yield f"{row['node']}: {rejected} of {n_in} rows were rejected and are not part of what follows."


def _of_one_run(results: Mapping[str, Any]) -> Iterator[str]:
    """What a page of several runs shows of the first one alone, or cannot set side by side."""
    runs = results["runs"] or []
    others = [run["label"] for run in runs if run["buckets"] != results["buckets"]]
    if others:
        yield (
            f"Buckets and corpus examples are those of {runs[0]['label']}; the buckets of"
            f" {', '.join(others)} are others (results.json: runs)."
        )
    first, *further = [run for run in runs if run["analysis"]] or [None]
    others = [run["label"] for run in further if run["analysis"] != first["analysis"]]
    if others:
        yield (
            f"The analysis shows {first['label']} and what was analysed alike: {', '.join(others)} looked at"
            " another point or asked another teacher (results.json: runs)."
        )
    students = results["provenance"]["student"]
    if runs and len(students) > 1:
        yield (
            f"The runs have different students ({', '.join(students)}): tokens per forward count each one's"
            " own tokens."
        )
