"""What units note of their numbers, and the artifact's card, which shows these means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from trims_core.points import point_text
from trims_core.rejects import Rejected, reject_lines

_DASH: Final = "–"


def mean(values: Iterable[float | None]) -> float | None:
    """Of the values there are; None where there is none."""
    kept = [value for value in values if value is not None]
    return sum(kept) / len(kept) if kept else None


def notes_of_answers(columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """What a unit notes of its schema.ANALYSED."""
    compared = [same for row in columns["agrees"] for same in row if same is not None]
    wrong = [verdict != "right" for verdict in columns["verdict"]]
    departed = [step is not None for step in columns["departure_step"]]
    return {
        "n": len(wrong),
        "order_position": mean(columns["order_position"]),
        "order_confidence": mean(columns["order_confidence"]),
        "agreement": mean(map(float, compared)),
        "n_wrong": sum(wrong),
        "n_departed": sum(both == (True, True) for both in zip(wrong, departed, strict=True)),
    }


def notes_of_trajectories(
    states: Mapping[str, Sequence[Any]], answers: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """What a unit notes of its schema.TRAJECTORIES and schema.ANSWER_DIFFICULTY: means over answers, of the
    first state's and the last one's NLL where they are filled."""
    last = dict(zip(states["sample_id"], states["filled_nats"], strict=True))
    first = [nats for step, nats in zip(states["step"], states["filled_nats"], strict=True) if step == 0]
    return {
        "order_difficulty": mean(answers["order_difficulty"]),
        "first_nats": mean(first),
        "last_nats": mean(last.values()),
    }


def card(about: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], rejected: Rejected) -> str:
    """Markdown.

    Args:
        about: the point, and the teacher or why there is none.
        cells: a row per task and model with what its units noted.
    """
    point = point_text(about["rule"], about["threshold"])
    text = (
        f"Answers at {point} with cache {about['cache']}, beside those of the same model with one token per"
        " forward. Order: mean rank correlation of a token's reveal step with its position, its confidence"
        " and its difficulty (−1: difficult ones first). Agreement: share of tokens that are the other"
        " answer's at that place. Departed: answers that are not right and hold a token that does not agree."
    )
    if about["without_teacher"] is None:
        text += (
            f" NLL: nats per token under {about['teacher']}, of {about['samples']} problems per task, before"
            " the first forward (canvas filled by the student) and of the answer."
        )
    else:
        text += f" No curves under a teacher and no difficulties: {about['without_teacher']}."
    lines = [
        "| task | model | answers | order: position | confidence | difficulty | agreement"
        " | not right: departed | NLL first | NLL last |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_row(cell) for cell in cells),
    ]
    refused = ["", "Texts that the teacher could not score:", *reject_lines(rejected)] if rejected else []
    return "\n".join([text, "", *lines, *refused])


def _row(cell: Mapping[str, Any]) -> str:
    numbers = (
        "order_position",
        "order_confidence",
        "order_difficulty",
        "agreement",
        "first_nats",
        "last_nats",
    )
    position, confidence, difficulty, agreement, first, last = (_shown(cell.get(name)) for name in numbers)
    departed = f"{cell['n_wrong']}: {cell['n_departed']}"
    texts = [cell["task"], cell["model"], str(cell["n"]), position, confidence, difficulty, agreement]
    return f"| {' | '.join([*texts, departed, first, last])} |"


def _shown(value: float | None) -> str:
    return _DASH if value is None else f"{value:.2f}"
