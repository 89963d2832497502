"""In which order each method reveals, and where its wrong answers leave the one-token-per-forward answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from trims_core.report.analysed import Analysed, Row
from trims_core.report.answer_means import Floats, mean_of, numbers
from trims_core.report.intervals import rounded

Seeds = Mapping[int | None, Analysed]
_CORRELATION: Final = (-1.0, 1.0)
_SHARE: Final = (0.0, 1.0)


def order_of(models: Seeds, counts_RN: Floats, counts_RM: Floats) -> dict[str, Any]:
    """One method's row of `order` in results.json.

    Args:
        counts_RN: how often each problem of the cell is drawn; counts_RM: each that the teacher was shown.
    """
    answers = {seed: model.answers for seed, model in models.items()}
    difficulty = {
        seed: numbers([row["order_difficulty"] for row in model.difficulties.values()])
        for seed, model in models.items()
    }
    shown = all(len(values_M) for values_M in difficulty.values())
    pooled = [row for rows in answers.values() for row in rows]
    runs = Counter(length for row in pooled for length in row["runs"])
    return {
        "position": _mean(answers, "order_position", counts_RN),
        "difficulty": mean_of(difficulty, counts_RM, _CORRELATION) if shown else None,
        "confidence": _mean(answers, "order_confidence", counts_RN),
        "revealed_per_step": _revealed_per_step(pooled),
        "run_lengths": [[length, runs[length]] for length in sorted(runs)],
        "departure": _departure(answers, counts_RN),
    }


def _mean(answers: Mapping[int | None, Sequence[Row]], name: str, counts_RN: Floats) -> Any:
    values_of = {seed: numbers([row[name] for row in rows]) for seed, rows in answers.items()}
    return mean_of(values_of, counts_RN, _CORRELATION)


def _revealed_per_step(rows: Sequence[Row]) -> list[float]:
    """Mean over answers of the share of their tokens that each forward reveals; they add up to 1."""
    shares = np.zeros(max(row["n_steps"] for row in rows))
    for row in rows:
        shares[: len(row["revealed"])] += np.asarray(row["revealed"]) / row["n_tokens"]
    return [rounded(share) for share in shares / len(rows)]


def _departure(answers: Mapping[int | None, Sequence[Row]], counts_RN: Floats) -> dict[str, Any]:
    """Of answers that are not right."""
    wrong = [row for rows in answers.values() for row in rows if row["verdict"] != "right"]

    def of_wrong(row: Row, value: float | None) -> float | None:
        return None if row["verdict"] == "right" else value

    step_share = {
        seed: numbers([of_wrong(row, _step_share(row)) for row in rows]) for seed, rows in answers.items()
    }
    confidence = {
        seed: numbers([of_wrong(row, row["departure_confidence"]) for row in rows])
        for seed, rows in answers.items()
    }
    return {
        "n_wrong": len(wrong),
        "n_departed": sum(row["departure_step"] is not None for row in wrong),
        "step_share": mean_of(step_share, counts_RN, _SHARE),
        "confidence": mean_of(confidence, counts_RN, _SHARE),
    }


def _step_share(row: Row) -> float | None:
    """The share of the answer's forwards that had been spent before the one that departs."""
    return None if row["departure_step"] is None else row["departure_step"] / row["n_steps"]
