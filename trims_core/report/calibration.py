"""How well each method's confidence agrees with what comes true: token by token, and answer by answer.

Tokens: confidence at the reveal against agreement with the same model's answer with one token per forward.
Answers: mean confidence of their tokens against the verdict. ECE is the mean distance of the two over ten
bins of equal width, weighted by what is in them. Seeds are pooled.

Source: Guo et al. (2017), equation 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from trims_core.report.analysed import Analysed
from trims_core.report.answer_means import Floats, numbers
from trims_core.report.intervals import rounded

N_BINS: Final = 10
_EDGES: Final = np.linspace(0.0, 1.0, N_BINS + 1)


def calibration_of(models: Iterable[Analysed], buckets: Mapping[str, Any] | None) -> dict[str, Any]:
    """One method's row of `calibration` in results.json.

    Args:
        buckets: as results.json has them.
    """
    confidence, agrees, nats = _tokens(models := list(models))
    known = np.isfinite(agrees)
    confidence, agrees, nats = confidence[known], agrees[known], nats[known]
    answers = [row for model in models for row in model.answers]
    sure = np.array([np.mean(row["confidence"]) for row in answers])
    right = np.array([row["verdict"] == "right" for row in answers], np.float64)
    return {
        "ece": ece(confidence, agrees),
        "n_tokens": len(confidence),
        "bins": bins(confidence, agrees),
        "answers": {"ece": ece(sure, right), "n": len(answers), "bins": bins(sure, right)},
        "by_bucket": _by_bucket(confidence, agrees, nats, buckets),
    }


def bins(confidence_N: Floats, came_true_N: Floats) -> list[dict[str, Any]]:
    """The bins that hold something: ends, n, mean confidence and share that came true; 1 is in the last."""
    return [
        {
            "low": rounded(_EDGES[number]),
            "high": rounded(_EDGES[number + 1]),
            "n": int(inside.sum()),
            "confidence": rounded(confidence_N[inside].mean()),
            "agreement": rounded(came_true_N[inside].mean()),
        }
        for number, inside in _inside(confidence_N)
    ]


def ece(confidence_N: Floats, came_true_N: Floats) -> float | None:
    """Expected calibration error; None of nothing."""
    if not len(confidence_N):
        return None
    apart = (
        abs(confidence_N[inside].mean() - came_true_N[inside].mean()) * inside.sum()
        for _, inside in _inside(confidence_N)
    )
    return rounded(sum(apart) / len(confidence_N))


def _inside(confidence_N: Floats) -> list[tuple[int, Any]]:
    """Number of each bin that is not empty, and what lies in it."""
    bin_N = np.clip(np.searchsorted(_EDGES, confidence_N, side="right") - 1, 0, N_BINS - 1)
    return [(number, bin_N == number) for number in np.unique(bin_N).tolist()]


def _tokens(models: Sequence[Analysed]) -> tuple[Floats, Floats, Floats]:
    """Confidence, agreement (NaN where it is not known) and difficulty (likewise) of all answers' tokens."""
    confidence: list[Any] = []
    agrees: list[Any] = []
    nats: list[Any] = []
    for model in models:
        for row in model.answers:
            scored = model.difficulties.get(row["sample_id"], {}).get("difficulty_nats")
            confidence += row["confidence"]
            agrees += row["agrees"]
            nats += [None] * row["n_tokens"] if scored is None else scored[: row["n_tokens"]]
    return numbers(confidence), numbers(agrees), numbers(nats)


def _by_bucket(
    confidence_N: Floats, agrees_N: Floats, nats_N: Floats, buckets: Mapping[str, Any] | None
) -> list[dict[str, Any]] | None:
    """Of the tokens whose difficulty is known, bucket by bucket of the corpus' edges; None without any, or
    where the corpus' difficulty is another one than the teacher's NLL."""
    known = np.isfinite(nats_N)
    if buckets is None or buckets["metric"] != "nll" or not known.any():
        return None
    # edges ascend; a value at one belongs below it, among the easier ones
    below_N = np.searchsorted(np.asarray(buckets["edges_nats"]), nats_N[known], side="left")
    bucket_N = buckets["k"] - below_N
    confidence_N, agrees_N = confidence_N[known], agrees_N[known]
    by_bucket = {number: bucket_N == number for number in np.unique(bucket_N).tolist()}
    return [
        {
            "bucket": number,
            "n": int(inside.sum()),
            "confidence": rounded(confidence_N[inside].mean()),
            "agreement": rounded(agrees_N[inside].mean()),
            "ece": ece(confidence_N[inside], agrees_N[inside]),
        }
        for number, inside in by_bucket.items()
    ]
