"""The verdict in three sentences: accuracy at equal parallelism, tokens per second, what limits both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trims_core.points import RuleName, point_text
from trims_core.report.cell_tables import between
from trims_core.report.contrast_tables import PROBLEMS, range_text
from trims_core.report.verdicts import NOT_APART, NOT_COMPARED, judged, signed

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Headline:
    """One of the three: in a few words, in a sentence, and what else belongs to it."""

    words: str
    sentence: str
    more: str = ""


def headlines_of(results: Mapping[str, Any], task: str) -> dict[str, dict[str, str]]:
    """accuracy, speed and limit, those left out for which there is nothing to say.

    They are about the first pair of methods that is compared, or about the only method there is; of an
    ablation about all its values, and about its base.
    """
    found = results["tasks"][task]
    limits = limits_of(results, task)
    base = _base_of(results["ablations"])
    said = {
        "accuracy": _accuracy(task, found) if base is None else _ablated(task, results, base),
        "speed": _speed(found, *_compared(found, base)),
        "limit": Headline(_size_text(found), limits[0]) if limits else None,
    }
    return {name: asdict(one) for name, one in said.items() if one is not None}


def limits_of(results: Mapping[str, Any], task: str) -> list[str]:
    """What limits this task's numbers, the gravest first: caveats of the whole run and its own."""
    others = tuple(f"{other}: " for other in results["tasks"] if other != task)
    return [line for line in results["caveats"] if not line.startswith(others)]


def _accuracy(task: str, found: Found) -> Headline | None:
    if found["comparisons"]:
        pair = found["comparisons"][0]
        lead, is_apart = judged(pair), pair["verdict"] not in (NOT_APART, NOT_COMPARED)
        words = f"{signed(lead['value'])} points" if lead and is_apart else pair["verdict"]
        sentence, stop, more = pair["sentence"].partition(". ")
        return Headline(words, f"{sentence}{'.' if stop else ''}", more)
    name, numbers = next(iter(found["numbers"].items()))
    mean, shared = numbers["mean_over_range"], range_text(found)
    if mean is None or shared is None:
        return None
    right = _right({"accuracy": mean["value"], **mean[PROBLEMS]})
    sentence = f"{name} answers {right} of {task} right (n = {found['n']}), averaged over {shared} tokens per"
    alone = (
        "there is no other method to compare it with" if len(found["numbers"]) == 1 else "no pair is compared"
    )
    return Headline(f"{100 * mean['value']:.1f} %", f"{sentence} forward; {alone}.")


def _base_of(ablations: Found | None) -> str | None:
    """The base's name among the methods; None where nothing was ablated, or no value is the base's."""
    rows = [] if ablations is None else ablations["rows"]
    return next((row["method"] for row in rows if row["is_base"]), None)


def _ablated(task: str, results: Found, base: str) -> Headline | None:
    """How many values are told apart from the base, and the one that is furthest from it."""
    pairs = {one["a"]: one for one in results["tasks"][task]["comparisons"] if one["b"] == base}
    rows = [row for row in results["ablations"]["rows"] if row["method"] in pairs]
    names = {row["method"]: f"{row['factor']}: {row['value']}" for row in rows}
    values = {method: float(lead["value"]) for method in names if (lead := judged(pairs[method]))}
    if not values:
        return None
    apart = [method for method in values if pairs[method]["verdict"] != NOT_APART]
    told = ", ".join(f"{names[method]} ({signed(values[method])})" for method in apart) or "none"
    furthest = max(values, key=lambda method: abs(values[method]))
    return Headline(
        f"{len(apart)} of {len(values)} told apart",
        f"Told apart from the base on {task}, of {len(values)} other values: {told}.",
        f"Furthest from it is {names[furthest]}. {pairs[furthest]['sentence']}",
    )


def _speed(found: Found, name: str, reference: str) -> Headline:
    """How fast the first method is where it is still as accurate as the student it is measured against, whose
    own fastest such point it is set beside."""
    rule: RuleName = found["rule"]
    start = found["curves"][reference][0]
    fastest = _fastest(found["curves"][name], start["low"])
    said = f"{_right(start)} right at {point_text(rule, start['threshold'])}"
    if fastest is None:
        return Headline("not as accurate", f"At no point is {name} as accurate as {reference}: {said}.")
    theirs = start if name == reference else _fastest(found["curves"][reference], start["low"]) or start
    ratio = fastest["tokens_per_second"] / theirs["tokens_per_second"]
    own = "" if theirs is start else f" and {_at(rule, theirs)} at its own fastest such point"
    return Headline(
        f"{ratio:.1f} × as fast",
        f"{name} decodes {_at(rule, fastest)};"
        f" {reference} {start['tokens_per_second']:.0f} tokens/s with {said}{own}.",
        "Such a point's accuracy is inside that interval or above it. On the machine of this run.",
    )


def _fastest(points: Sequence[Found], least: float) -> Found | None:
    """Of the points that are so accurate at least."""
    kept = [point for point in points if point["accuracy"] >= least]
    return max(kept, key=lambda point: float(point["tokens_per_second"]), default=None)


def _at(rule: RuleName, point: Found) -> str:
    """`180 tokens/s with 73.5 % [67.0, 79.2] right (threshold 0.7, 3.1 tokens per forward)`."""
    return (
        f"{point['tokens_per_second']:.0f} tokens/s with {_right(point)} right"
        f" ({point_text(rule, point['threshold'])}, {point['tpf']:.1f} tokens per forward)"
    )


def _compared(found: Found, base: str | None) -> tuple[str, str]:
    """The method that leads the page, and what its speed is measured against: untuned where it was swept.

    Args:
        base: of an ablation, which leads it.
    """
    names = list(found["curves"])
    pair = found["comparisons"][0] if found["comparisons"] else {"a": names[0], "b": names[0]}
    lead, other = (pair["a"], pair["b"]) if base is None else (base, base)
    return lead, "untuned" if "untuned" in names else other


def _size_text(found: Found) -> str:
    """`n = 150, one seed`."""
    seeds = max(len(row["seeds"]) for row in found["numbers"].values())
    trained = "" if not seeds else ", one seed" if seeds == 1 else f", {seeds} seeds"
    return f"n = {found['n']}{trained}"


def _right(row: Mapping[str, Any]) -> str:
    """`73.5 % [67.0, 79.2]`."""
    return between(row).replace(" [", " % [")
