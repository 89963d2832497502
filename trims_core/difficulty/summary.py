"""What the difficulties of a set of tokens are like; summaries of shards merge without rounding.

Every float32 is a whole multiple of 2^-149, so the sum is kept as an integer: no order of shards can change
the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_SCALE_BITS: Final = 149
_MANTISSA_BITS: Final = 23
_EXACT_COUNT: Final = 1 << 28
"""So many 24-bit mantissas add up exactly in a float64."""


@dataclass(frozen=True)
class Summary:
    """Statistics of some tokens' difficulties (float32, finite, ≥ 0)."""

    n_tokens: int
    n_zero: int
    lowest: float | None
    """None without tokens."""
    highest: float | None
    sum_scaled: int
    """The exact sum times 2^149."""
    bucket_sizes: tuple[int, ...]
    """Bucket 1 first."""

    @property
    def mean(self) -> float:
        """Correctly rounded. Raises: ZeroDivisionError without tokens."""
        return self.sum_scaled / (self.n_tokens << _SCALE_BITS)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the sum as text, because it is longer than what JSON readers keep."""
        return {**asdict(self), "bucket_sizes": list(self.bucket_sizes), "sum_scaled": str(self.sum_scaled)}

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> Summary:
        """What `to_json` wrote; further keys are left alone."""
        return Summary(
            n_tokens=plain["n_tokens"],
            n_zero=plain["n_zero"],
            lowest=plain["lowest"],
            highest=plain["highest"],
            sum_scaled=int(plain["sum_scaled"]),
            bucket_sizes=tuple(plain["bucket_sizes"]),
        )


def summarise(values_N: npt.NDArray[np.float32], bucket_N: npt.NDArray[np.uint8], k: int) -> Summary:
    """The summary of one shard's tokens."""
    sizes = np.bincount(bucket_N, minlength=k + 1)[1:]
    some = len(values_N) > 0
    return Summary(
        n_tokens=len(values_N),
        n_zero=int((values_N == 0).sum()),
        lowest=float(values_N.min()) if some else None,
        highest=float(values_N.max()) if some else None,
        sum_scaled=sum(
            _scaled_sum(values_N[i : i + _EXACT_COUNT]) for i in range(0, len(values_N), _EXACT_COUNT)
        ),
        bucket_sizes=tuple(int(size) for size in sizes),
    )


def merge(parts: Sequence[Summary]) -> Summary:
    """The summary of all tokens of several summaries; `parts` must not be empty."""
    lows = [part.lowest for part in parts if part.lowest is not None]
    highs = [part.highest for part in parts if part.highest is not None]
    return Summary(
        n_tokens=sum(part.n_tokens for part in parts),
        n_zero=sum(part.n_zero for part in parts),
        lowest=min(lows, default=None),
        highest=max(highs, default=None),
        sum_scaled=sum(part.sum_scaled for part in parts),
        bucket_sizes=tuple(map(sum, zip(*(part.bucket_sizes for part in parts), strict=True))),
    )


def _scaled_sum(values_N: npt.NDArray[np.float32]) -> int:
    """Exact sum times 2^149: mantissas are added per exponent."""
    patterns = np.ascontiguousarray(values_N + np.float32(0.0)).view(np.uint32)
    exponent = (patterns >> np.uint32(_MANTISSA_BITS)).astype(np.int64)
    mantissa = (patterns & np.uint32((1 << _MANTISSA_BITS) - 1)).astype(np.int64)
    mantissa += np.where(exponent > 0, 1 << _MANTISSA_BITS, 0)
    sums = np.bincount(exponent, weights=mantissa, minlength=1)
    return sum(int(total) << max(power - 1, 0) for power, total in enumerate(sums.tolist()))
