"""The analysis' tables: a summary, where wrong answers depart, calibration, what changed between methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trims_core.points import point_text
from trims_core.report.text_table import DASH, TextTable


def analysis_tables(task: str, found: Mapping[str, Any]) -> dict[str, TextTable]:
    """By name, those for which there is something; none of a task that was not analysed."""
    about = found["analysis"]
    if about is None:
        return {}
    tables = {
        "analysis": _summary(task, about),
        "departures": _departures(task, about),
        "calibration": _calibration(task, about),
    }
    if any(of["by_bucket"] for of in about["calibration"].values()):
        tables["calibration-by-bucket"] = _by_bucket(task, about)
    return tables | ({"changed": _changed(task, about)} if about["changed"] else {})


def changed_problems(found: Mapping[str, Any]) -> TextTable | None:
    """A row per problem that one method of a pair answers right and the other does not; None of no analysis.

    It has as many rows as there are such problems, so it is a file alone.
    """
    about = found["analysis"]
    if about is None or not about["changed"]:
        return None
    rows = [
        (pair["a"], pair["b"], _seed(pair), word, name)
        for pair in about["changed"]
        for word in ("right", "wrong")
        for name in pair[f"became_{word}"]
    ]
    return TextTable("", ("method", "against", "seed", "became", "problem"), tuple(rows))


def _summary(task: str, about: Mapping[str, Any]) -> TextTable:
    """Order, calibration and the NLL of half-revealed states, a row per method."""
    rows = []
    for name, order in about["order"].items():
        calibration, departure = about["calibration"][name], order["departure"]
        rows.append(
            (
                name,
                *(_stat(order[kind]) for kind in ("position", "confidence", "difficulty")),
                f"{departure['n_departed']} of {departure['n_wrong']}",
                _share(calibration["ece"]),
                _share(calibration["answers"]["ece"]),
                *_half_revealed(about["trajectories"].get(name)),
            )
        )
    header = ["method", "order: position", "confidence", "difficulty", "not right: departed"]
    header += ["ECE of tokens", "of answers", "NLL half revealed, nats", "half filled, nats"]
    return TextTable(_says(task, about), tuple(header), tuple(rows))


def _says(task: str, about: Mapping[str, Any]) -> str:
    text = (
        f"{task} at {point_text(about['rule'], about['threshold'])}: rank correlation of a token's reveal"
        " step with its position, confidence and difficulty [95 %]; answers that are not right and leave the"
        " answer of one token per forward; expected calibration error of confidence"
    )
    if about["teacher"] is None:
        return f"{text}. No difficulty and no NLL: {about['without_teacher']}"
    return (
        f"{text}; mean NLL per token under {about['teacher']} (n = {about['n']}) of the first states with at"
        " least half of the answer revealed: of the revealed tokens, and with the rest filled by the student"
    )


def _stat(stat: Mapping[str, float] | None) -> str:
    return DASH if stat is None else f"{stat['mean']:.2f} [{stat['low']:.2f}, {stat['high']:.2f}]"


def _half_revealed(curves: Mapping[str, Any] | None) -> tuple[str, str]:
    """NLL of the revealed tokens and of the filled canvas, where half of the answer is revealed."""
    if curves is None:
        return DASH, DASH
    (half,) = (row for row in curves["by_share"] if row["x"] == 0.5)
    shown = [
        None
        if half[f"{kind}_nats"] is None
        else {"mean": half[f"{kind}_nats"], "low": half[f"{kind}_low"], "high": half[f"{kind}_high"]}
        for kind in ("revealed", "filled")
    ]
    return _stat(shown[0]), _stat(shown[1])


def _departures(task: str, about: Mapping[str, Any]) -> TextTable:
    rows = []
    for name, order in about["order"].items():
        of = order["departure"]
        counts = map(str, (about["calibration"][name]["answers"]["n"], of["n_wrong"], of["n_departed"]))
        rows.append((name, *counts, _stat(of["step_share"]), _stat(of["confidence"])))
    return TextTable(
        f"{task}: where answers that are not right first leave what one token per forward gives: after which"
        " share of their forwards, with which confidence [95 %]",
        ("method", "answers of all seeds", "not right", "that leave", "share of the forwards", "confidence"),
        tuple(rows),
    )


def _calibration(task: str, about: Mapping[str, Any]) -> TextTable:
    rows = []
    for name, of in about["calibration"].items():
        answers = of["answers"]
        rows.append((name, _share(of["ece"]), str(of["n_tokens"]), _share(answers["ece"]), str(answers["n"])))
    return TextTable(
        f"{task}: expected calibration error (ECE), of tokens and of whole answers",
        ("method", "ECE of tokens", "tokens", "ECE of answers", "answers"),
        tuple(rows),
    )


def _by_bucket(task: str, about: Mapping[str, Any]) -> TextTable:
    rows = [
        (
            f"{name}, bucket {row['bucket']}",
            str(row["n"]),
            *(_share(row[what]) for what in ("confidence", "agreement", "ece")),
        )
        for name, of in about["calibration"].items()
        for row in of["by_bucket"] or ()
    ]
    return TextTable(
        f"{task}: confidence and agreement by bucket of the teacher's difficulty (1 = hardest)",
        ("method, bucket", "tokens", "confidence", "agreement", "ECE"),
        tuple(rows),
    )


def _changed(task: str, about: Mapping[str, Any]) -> TextTable:
    rows = []
    for pair in about["changed"]:
        counts = (len(pair["became_right"]), len(pair["became_wrong"]), pair["n"])
        rows.append((f"{pair['a']} against {pair['b']}", _seed(pair), *map(str, counts)))
    at = point_text(about["rule"], about["threshold"])
    return TextTable(
        f"{task} at {at}: problems that only the first method answers right, and only the second one",
        ("methods", "seed", "became right", "became wrong", "problems"),
        tuple(rows),
    )


def _seed(pair: Mapping[str, Any]) -> str:
    return DASH if pair["seed"] is None else str(pair["seed"])


def _share(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"
