"""Mean NLL of each method's trajectories under the teacher, by share revealed and by forwards spent.

By share: of each answer the first state that was looked at with at least that share of its tokens revealed.
By forwards: the first with at least so many forwards behind it; a finished answer keeps its last value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from trims_core.report.analysed import Analysed, Row
from trims_core.report.answer_means import Floats, means_of, numbers
from trims_core.report.intervals import rounded
from trims_core.trajectories import moments

KINDS: Final = ("revealed", "filled")
SHARES: Final = tuple(round(0.05 * i, 2) for i in range(21))
_STEPS_SHOWN: Final = 64
_NATS: Final = (0.0, math.inf)

Seeds = Mapping[int | None, Analysed]
Reached = Callable[[Row, Row, float], bool]
"""Whether a state, of an answer with this last one, is at least so far."""


def trajectories_of(models: Seeds, counts_RM: Floats) -> dict[str, Any]:
    """One method's row of `trajectories` in results.json.

    Args:
        counts_RM: how often each problem that the teacher was shown is drawn.
    """
    longest = max(rows[-1]["step"] for model in models.values() for rows in model.states.values())
    steps = moments(longest, _STEPS_SHOWN)
    return {
        "by_share": _curve(models, SHARES, _has_share, counts_RM),
        "by_step": _curve(models, steps, _has_step, counts_RM),
    }


def _has_share(state: Row, last: Row, share: float) -> bool:
    # the count is whole: 0.35 · 20 is a hair above 7
    return bool(state["n_revealed"] >= share * last["n_revealed"] - 1e-9)


def _has_step(state: Row, last: Row, step: float) -> bool:
    return bool(state["step"] >= min(step, last["step"]))


def _curve(
    models: Seeds, places: Sequence[float], reached: Reached, counts_RM: Floats
) -> list[dict[str, Any]]:
    """A row per place: x, and mean, low and high of both kinds; null where no answer has a value."""
    rows: list[dict[str, Any]] = [{"x": rounded(x)} for x in places]
    for kind in KINDS:
        values_of = {
            seed: np.stack(
                [_values(states, places, reached, f"{kind}_nats") for states in model.states.values()]
            )
            for seed, model in models.items()
        }
        for row, stat in zip(rows, means_of(values_of, counts_RM, _NATS), strict=True):
            for end, name in (("nats", "mean"), ("low", "low"), ("high", "high")):
                row[f"{kind}_{end}"] = None if stat is None else stat[name]
    return rows


def _values(states: Sequence[Row], places: Sequence[float], reached: Reached, name: str) -> Floats:
    last = states[-1]
    return numbers([next(s for s in states if reached(s, last, x))[name] for x in places])
