"""One word and one sentence on a difference of two methods, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from trims_core.report.levels import Levels, Range

ALPHA: Final = 0.05
NOT_APART: Final = "not told apart"
NOT_COMPARED: Final = "no shared range"


def verdict(row: Mapping[str, Any], task: str, levels: Levels) -> tuple[str, str]:
    """One word on a − b and one plain sentence, both from the mean over the shared range, or where there is
    none from the fewest equal forwards.

    With several seeds `ahead` and `behind` need an adjusted p below 0.05, seeds and problems being random;
    with one seed an interval over problems without zero.
    """
    a, b, lead = row["a"], row["b"], judged(row)
    if lead is None:
        return NOT_COMPARED, f"{a} and {b} share no range of tokens per forward with all others on {task}."
    ahead, behind = (a, b) if lead["value"] > 0 else (b, a)
    where = f"with {lead['forwards']:g} forwards" if levels.shared is None else _range(levels.shared)
    kind = "over_problems" if lead["over_seeds_and_problems"] is None else "over_seeds_and_problems"
    numbers = (
        f"accuracy {where} {signed(lead['value'])} {interval_text(lead[kind])} points over"
        f" {kind.removeprefix('over_').replace('_', ' ')}"
    )
    if "p_holm" in lead:
        numbers += f", Holm's p {p_text(lead['p_holm'])}"
    of_seeds = f"n = {row['n']}{_seeds_text(row['seeds'])}"
    if told_apart(lead):
        word = "ahead" if ahead == a else "behind"
        return word, f"{ahead} is ahead of {behind} on {task} ({of_seeds}): {numbers}.{_by_seed(lead)}"
    text = f"{a} and {b} cannot be told apart on {task} ({of_seeds}): {numbers}."
    return NOT_APART, text + _by_seed(lead) + _elsewhere(row)


def judged(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The number that a difference is judged by."""
    found: Mapping[str, Any] | None = row["mean_over_range"] or next(iter(row["at_forwards"]), None)
    return found


def _range(shared: Range) -> str:
    return f"over {shared[0]:.1f} to {shared[1]:.1f} tokens per forward"


def told_apart(entry: Mapping[str, Any]) -> bool:
    """Whether a difference is one: by its adjusted p, or by its interval over problems where it has none."""
    if "p_holm" in entry:
        return bool(entry["p_holm"] < ALPHA)
    return _without_zero(entry["over_problems"])


def _without_zero(interval: Mapping[str, float]) -> bool:
    return interval["low"] > 0 or interval["high"] < 0


def _seeds_text(seeds: Sequence[int]) -> str:
    if not seeds:
        return ", no training seed in common"
    return ", one training seed" if len(seeds) == 1 else f", {len(seeds)} seeds"


def _by_seed(mean: Mapping[str, Any]) -> str:
    values = [signed(value) for value in mean["by_seed"].values()]
    return f" By seed: {', '.join(values)}." if len(values) > 1 else ""


def _elsewhere(row: Mapping[str, Any]) -> str:
    """What speaks for a difference all the same."""
    mean, at = judged(row), row["at_level"]
    assert mean is not None
    text = ""
    if "p_holm" in mean and _without_zero(mean["over_problems"]):
        text += " These trained models differ over problems; other seeds may turn that round."
    apart = [f"{entry['tpf']:g}" for entry in at if told_apart(entry)]
    if apart and "p_holm" in mean:
        text += f" At {_listed(apart)} tokens per forward alone they are told apart (Holm)."
    elif apart:
        text += (
            f" At {_listed(apart)} tokens per forward alone the interval excludes zero; with {len(at)} such"
            " looks one may do so by chance."
        )
    return text


def signed(value: float, digits: int = 1, scale: float = 100.0) -> str:
    """`+5.2`, with a true minus sign; a fraction as points."""
    return f"{scale * value:+.{digits}f}".replace("-", "−")


def interval_text(interval: Mapping[str, float], digits: int = 1, scale: float = 100.0) -> str:
    """`[−1.0, +11.3]`."""
    return f"[{signed(interval['low'], digits, scale)}, {signed(interval['high'], digits, scale)}]"


def p_text(p: float) -> str:
    """`0.012`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(words) if len(words) < 3 else ", ".join(words[:-1]) + " and " + words[-1]
