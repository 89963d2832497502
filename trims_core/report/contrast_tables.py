"""Tables that compare methods: their headline numbers, the differences between them, McNemar's tests.

A table of levels carries one kind of interval. Differences show both kinds, each in a column of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from trims_core.report.text_table import DASH, TextTable
from trims_core.report.verdicts import interval_text, judged, p_text, signed

PROBLEMS: Final = "over_problems"
BOTH: Final = "over_seeds_and_problems"
WORDS: Final = {PROBLEMS: "over problems", BOTH: "over seeds and problems"}
MEANINGS_OF_INTERVALS: Final = (
    "An interval over problems says how far a number would move if these trained models were asked other"
    " problems.",
    "An interval over seeds and problems says how far it would move if the models were also trained again"
    " with other seeds; it is what a claim about a method needs.",
)

Found = Mapping[str, Any]


def kind_of_levels(found: Found) -> str:
    """The kind of interval that the table of levels carries: the wider one if every trained method has it."""
    numbers = found["numbers"].values()
    several = any(len(row["seeds"]) > 1 for row in numbers)
    return BOTH if several and all(row["aup"][BOTH] is not None for row in numbers) else PROBLEMS


def range_text(found: Found) -> str | None:
    """`2.3–6.8`, the tokens per forward that all methods share; None where there are none."""
    shared = found["equal_tpf"]["range"]
    return None if shared is None else f"{shared[0]:.1f}–{shared[1]:.1f}"


def where_text(found: Found) -> str:
    """Where methods are judged: `mean over 2.3–6.8 tokens per forward`; without a range `at 6 forwards`."""
    shared, forwards = range_text(found), found["equal_tpf"]["forwards"]
    if shared is not None:
        return f"mean over {shared} tokens per forward"
    return f"at {forwards[0]:g} forwards" if forwards else "at no common point"


def methods_table(task: str, found: Found) -> TextTable:
    """Mean accuracy over the shared range, at levels and at one token per forward, AUP; a row per method."""
    kind, shared = kind_of_levels(found), range_text(found)
    several = any(len(row["seeds"]) > 1 for row in found["numbers"].values())
    header = ["method", "seeds"]
    header += [f"mean over {shared} per forward"] if shared else []
    header += ["mean by seed"] if shared and several else []
    header += [f"at {level:g} per forward" for level in found["equal_tpf"]["levels"]]
    header += [f"at {number:g} forwards" for number in found["equal_tpf"]["forwards"]]
    header += ["one token per forward", "AUP"]
    rows = []
    for name, row in found["numbers"].items():
        mean = row["mean_over_range"]
        cells = [name, str(len(row["seeds"])) if row["seeds"] else DASH]
        cells += [level_text(mean, kind)] if shared else []
        cells += [_by_seed(mean)] if shared and several else []
        cells += [level_text(one, kind) for one in (*row["at_level"], *row["at_forwards"])]
        cells += [level_text(row["one_token_per_forward"], kind), level_text(row["aup"], kind, 0, 1.0)]
        rows.append(tuple(cells))
    unseeded = kind == BOTH and any(not row["seeds"] for row in found["numbers"].values())
    caption = (
        f"{task}: methods (n = {found['n']}; accuracy in %, interpolated between points of a curve;"
        f" [95 %] {WORDS[kind]}"
    )
    caption += ", over problems where nothing was trained)" if unseeded else ")"
    return TextTable(caption, tuple(header), tuple(rows))


def level_text(row: Found | None, kind: str, digits: int = 1, scale: float = 100.0) -> str:
    """`73.5 [70.1, 76.9]` in percent, with this kind of interval; a dash where there is nothing."""
    if row is None:
        return DASH
    low, high = (scale * row[kind][end] for end in ("low", "high"))
    return f"{scale * row['value']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _by_seed(row: Found) -> str:
    values = row["by_seed"].values()
    return ", ".join(f"{100 * value:.1f}" for value in values) if len(values) > 1 else DASH


def differences_table(task: str, found: Found) -> TextTable:
    """Every difference with both intervals and the adjusted p of the second; a row per pair and number."""
    pairs = found["comparisons"]
    entries = [(pair, *entry) for pair in pairs for entry in _numbers(found, pair)]
    several = any(row[BOTH] is not None for _, _, row, _ in entries)
    rows = []
    for pair, at, row, in_points in entries:
        style = (1, 100.0) if in_points else (0, 1.0)
        cells = [f"{pair['a']} − {pair['b']}", at, signed(row["value"], *style)]
        cells.append(interval_text(row[PROBLEMS], *style))
        if several:
            cells.append(DASH if row[BOTH] is None else interval_text(row[BOTH], *style))
            cells.append(p_text(row["p_holm"]) if "p_holm" in row else DASH)
        cells.append(pair["verdict"] if row is judged(pair) else DASH)
        rows.append(tuple(cells))
    header = ["difference", "tokens per forward", "points", f"[95 %] {WORDS[PROBLEMS]}"]
    header += [f"[95 %] {WORDS[BOTH]}", "p (Holm)"] if several else []
    return TextTable(_caption(task, found), (*header, "verdict"), tuple(rows))


def n_adjusted(found: Found) -> int:
    """How many means and levels of differences share Holm's correction."""
    return sum("p_holm" in row for pair in found["comparisons"] for _, row, _ in _numbers(found, pair))


def _numbers(found: Found, pair: Found) -> Iterator[tuple[str, Found, bool]]:
    """A pair's numbers in the order of the table: where, the row, whether it is in points of accuracy."""
    if pair["mean_over_range"] is not None:
        yield f"mean over {range_text(found)}", pair["mean_over_range"], True
    for row in pair["at_level"]:
        yield f"{row['tpf']:g}", row, True
    for row in pair["at_forwards"]:
        yield f"{row['forwards']:g} forwards", row, True
    if pair["one_token_per_forward"] is not None:
        yield "one", pair["one_token_per_forward"], True
    yield "AUP (no points)", pair["aup"], False


def _caption(task: str, found: Found) -> str:
    has_range = found["equal_tpf"]["range"] is not None
    judged_by = "means and levels" if has_range else "differences at equal forwards"
    n_contrasts = n_adjusted(found)
    text = (
        f"{task}: differences on the same {found['n']} problems, in points of accuracy. Over problems: paired"
        f" bootstrap, {found['bootstrap_samples']} resamples, seeds averaged."
    )
    if n_contrasts:
        text += (
            " Over seeds and problems: variance components of the differences of equal seeds. p belongs to"
            f" that interval, adjusted (Holm) over the {n_contrasts} {judged_by} of this table;"
            " one token per forward is tested in the next table, AUP is not tested."
        )
    return f"{text} The verdict is that of {'the mean' if has_range else 'the fewest forwards'}."


def mcnemar_table(task: str, found: Found) -> TextTable | None:
    """McNemar's exact test at one token per forward, per seed and combined; None where no pair has it."""
    tested = [pair for pair in found["comparisons"] if pair["mcnemar"] is not None]
    if not tested:
        return None
    rows = []
    for pair in tested:
        test = pair["mcnemar"]
        counts = (f"{a} : {b}" for a, b in zip(test["a_only"], test["b_only"], strict=True))
        rows.append(
            (
                f"{pair['a']} − {pair['b']}",
                ", ".join(map(str, pair["seeds"])) or DASH,
                ", ".join(counts),
                ", ".join(map(p_text, test["p_by_seed"])),
                p_text(test["p"]),
                p_text(test["p_holm"]),
            )
        )
    return TextTable(
        f"{task}: one token per forward, McNemar's exact test on the same {found['n']} problems. Seeds are"
        " combined per direction by majority: of S one-sided p the k-th smallest times S/k, k being the first"
        " number above S/2 (valid although all seeds answer the same problems), then doubled. It is about"
        " these trained models.",
        (
            "difference",
            "seeds",
            "right by the first alone : by the second alone",
            "p by seed",
            "p",
            "p (Holm)",
        ),
        tuple(rows),
    )


def sentences(results: Found) -> list[str]:
    """The verdict on every pair of methods, task by task."""
    return [pair["sentence"] for found in results["tasks"].values() for pair in found["comparisons"]]
