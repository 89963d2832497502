"""A digest of token ids: by it a rollout is tied to the prompt it answers, and a verdict to the rollout."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def ids_digest(ids: Sequence[int] | npt.NDArray[np.int32]) -> str:
    """Hex sha256 of the ids, each as a little-endian int32."""
    return hashlib.sha256(np.asarray(ids, dtype="<i4").tobytes()).hexdigest()
