"""Which ids were seen, in about 20 bytes each: a set of Python strings takes ten times as much.

Covered: any number of ids; what is kept of one is 128 bits of its BLAKE2b, so two ids that differ are taken
for one with a probability below 1e-20 among a billion. Not covered: where an id was seen; who wants to know
reads the input again.
"""

from __future__ import annotations

import hashlib
from typing import Final

_DIGEST_BYTES: Final = 16
_N_GROUPS: Final = 1 << 14
"""Digests are looked for in the group of their first bits: 600 of them among ten million."""


class SeenIds:
    """A set that only grows."""

    def __init__(self) -> None:
        self._groups = [bytearray() for _ in range(_N_GROUPS)]

    def add(self, example_id: str) -> bool:
        """Whether the id is new."""
        digest = hashlib.blake2b(example_id.encode(), digest_size=_DIGEST_BYTES).digest()
        group = self._groups[int.from_bytes(digest[:2], "little") % _N_GROUPS]
        found = group.find(digest)
        while found % _DIGEST_BYTES and found >= 0:  # it may stand across two others
            found = group.find(digest, found + 1)
        if found >= 0:
            return False
        group += digest
        return True
