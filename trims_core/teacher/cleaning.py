"""Raw values of a teacher → scores that can be sorted and summed, or the reason why not.

−log of a probability of one comes out as −0.0, whose bit pattern sorts above +inf: it becomes +0.0. Values
in [−1e-4, 0) are rounding and become 0; anything below, NaN, infinities and the −9999 that some servers send
for −inf make the row a reject.
Source: method of the project (own derivation); tests/teacher/test_cleaning.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

ROUNDING_NATS: Final = 1e-4
SENTINEL_NATS: Final = 9999.0

NON_FINITE: Final = "non_finite"
POSITIVE: Final = "positive_log_probability"
WRONG_LENGTH: Final = "wrong_length"


class UnusableScoresError(Exception):
    """One row's scores cannot be used; `reason` is counted, `detail` is for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def clean_nats(values: Sequence[float], n_expected: int, name: str) -> npt.NDArray[np.float32]:
    """Values in nats ≥ +0.0, float32, one per token.

    Args:
        name: what the values are, for the message.
    Raises:
        UnusableScoresError: another number of values, or one that is not finite or clearly below zero.
    """
    nats = np.asarray(values, dtype=np.float64)
    if nats.shape != (n_expected,):
        raise UnusableScoresError(WRONG_LENGTH, f"{nats.size} {name} values for {n_expected} tokens")
    if n_expected and nats.min() >= 0.0 and nats.max() < SENTINEL_NATS:  # as nearly always; no NaN passes
        return (nats + 0.0).astype(np.float32)
    broken = ~np.isfinite(nats) | (np.abs(nats) >= SENTINEL_NATS)
    if broken.any():
        raise UnusableScoresError(NON_FINITE, _place(nats, broken, name))
    negative = nats < -ROUNDING_NATS
    if negative.any():
        raise UnusableScoresError(POSITIVE, _place(nats, negative, name))
    clean: npt.NDArray[np.float32] = np.where(nats <= 0.0, 0.0, nats).astype(np.float32)
    return clean


def _place(nats: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_], name: str) -> str:
    first = int(np.flatnonzero(wrong)[0])
    return f"{int(wrong.sum())} of {nats.size} {name} values, first {nats[first]!s} at token {first}"
