"""Randomness by name: the same for the same seed and names, whatever else a run does. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

_DIGEST_BYTES: Final = 16


def draw_seed(seed: int, epoch: int, example_id: str, purpose: str = "train") -> int:
    """A 63-bit generator seed for one pass over one example."""
    text = f"{purpose}\0{seed}\0{epoch}\0{example_id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def hash_order(ids: Iterable[str], key: str) -> npt.NDArray[np.int64]:
    """Indices of `ids` in the order of a keyed hash: a permutation that ignores how the ids are listed."""
    digests = bytearray()
    for name in ids:
        digests += hashlib.blake2b(f"{key}\0{name}".encode(), digest_size=_DIGEST_BYTES).digest()
    return np.argsort(np.frombuffer(digests, f"S{_DIGEST_BYTES}"), kind="stable")


def chosen(ids: Iterable[str], count: int) -> list[str]:
    """The `count` ids with the smallest hash: the same ones for the same ids, in any order."""
    return sorted(set(ids), key=lambda name: (hashlib.sha256(name.encode()).digest(), name))[:count]
