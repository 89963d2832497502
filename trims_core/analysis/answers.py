"""Facts about one answer that follow from its samples alone: in which order it came about, where it agrees
with the answer that one token per forward gives, and where it first leaves it.

Only tokens up to and including the first end token count; where no end came, or a stop string ended the
answer, those up to the last one of the answer.

Shapes: T tokens of the answer.
Source: own definitions (docs/analysis.md); a slow version is in tests/analysis/test_answers.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from trims_core.errors import CorruptShardError
from trims_core.ranks import rank_correlation
from trims_core.schema import ANALYSED
from trims_core.trajectories import n_steps

Ints = npt.NDArray[np.int64]


def table_of(
    samples: Mapping[str, Mapping[str, Any]],
    one_token: Mapping[str, Mapping[str, Any]],
    verdicts: Mapping[str, str],
) -> dict[str, list[Any]]:
    """The columns of schema.ANALYSED, in the order of the samples.

    Args:
        samples: by problem; `one_token` are the same model's, `verdicts` the samples'.

    Raises:
        CorruptShardError: another set of problems on one side.
    """
    if not samples.keys() == one_token.keys() == verdicts.keys():
        odd = sorted((samples.keys() ^ one_token.keys()) | (samples.keys() ^ verdicts.keys()))
        raise CorruptShardError(
            f"samples, samples with one token per forward and grades are of other problems"
            f" ({', '.join(odd[:5])}); expected the same. Redo them with --refresh sweep"
        )
    rows = [
        {"sample_id": name, "verdict": verdicts[name], **facts_of(sample, one_token[name])}
        for name, sample in samples.items()
    ]
    return _columns(rows)


def facts_of(sample: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """What schema.ANALYSED holds of one answer.

    Args:
        one: the same model's answer with one token per forward.
    """
    n = int(sample["n_tokens"])
    step_T = np.asarray(sample["reveal_step"][:n], np.int64)
    confidence = sample["confidence"][:n]
    agrees = agreement(sample["token_ids"][:n], one["token_ids"][: one["n_tokens"]])
    return {
        "n_tokens": n,
        "n_steps": n_steps(sample["reveal_step"][:n]),
        "order_position": rank_correlation(step_T, np.arange(n)),
        "order_confidence": rank_correlation(step_T, confidence),
        "confidence": confidence,
        "agrees": agrees,
        "revealed": np.bincount(step_T).tolist(),
        "runs": run_lengths(step_T),
        **_departure(step_T, agrees, confidence),
    }


def agreement(token_ids: list[int], other_ids: list[int]) -> list[bool | None]:
    """Whether two answers have the same token at each position of the first; None behind the second's end."""
    padded = [*other_ids, *[None] * (len(token_ids) - len(other_ids))]
    return [
        None if other is None else token == other for token, other in zip(token_ids, padded, strict=False)
    ]


def run_lengths(step_T: Ints) -> list[int]:
    """Lengths of the runs of adjacent positions that one forward revealed, from left to right."""
    begins = np.flatnonzero(np.diff(step_T, prepend=-1) != 0)
    return [int(length) for length in np.diff(begins, append=len(step_T))]


def _departure(step_T: Ints, agrees: list[bool | None], confidence: list[float]) -> dict[str, Any]:
    """The first forward that revealed a token which does not agree, and the leftmost such token of it."""
    places = [place for place, same in enumerate(agrees) if same is False]
    if not places:
        return {"departure_step": None, "departure_place": None, "departure_confidence": None}
    place = min(places, key=lambda one: (int(step_T[one]), one))
    return {
        "departure_step": int(step_T[place]),
        "departure_place": place,
        "departure_confidence": confidence[place],
    }


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    kept = list(rows)
    return {name: [row[name] for row in kept] for name in ANALYSED.schema.names}
