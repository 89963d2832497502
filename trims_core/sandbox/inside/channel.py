"""Messages over a pair of pipes: each a length and the bytes of a plain value."""

from __future__ import annotations

import os
import struct

from .plain import NotPlainError, decode, encode

TYPE_CHECKING = False  # importing typing would take as long as Python's start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

MAX_BYTES: Final = 1 << 24
"""Of one message; no answer to a problem is that large."""
_HEAD: Final = struct.Struct("<I")


class EndedError(Exception):
    """The other side is gone."""


class Channel:
    """What one side reads and writes. `handle` and `owned` are those of `encode` and `decode`."""

    def __init__(
        self,
        reads: int,
        writes: int,
        handle: Callable[[object], int] | None = None,
        owned: Callable[[int], object] | None = None,
    ) -> None:
        self._reads, self._writes = reads, writes
        self._handle, self._owned = handle, owned

    def send(self, message: object) -> None:
        """Raises: NotPlainError: it is not plain, or larger than 16 MiB. EndedError."""
        data = encode(message, self._handle)
        if len(data) > MAX_BYTES:
            raise NotPlainError(f"a message of {len(data)} bytes; expected at most {MAX_BYTES}")
        left = memoryview(_HEAD.pack(len(data)) + data)
        try:
            while left:
                left = left[self.write(left) :]
        except BrokenPipeError as error:
            raise EndedError from error

    def receive(self) -> Any:
        """Raises: NotPlainError: what came is no value, or too large. EndedError."""
        (length,) = _HEAD.unpack(self._exactly(_HEAD.size))
        if length > MAX_BYTES:
            raise NotPlainError(f"a message of {length} bytes; expected at most {MAX_BYTES}")
        return decode(self._exactly(length), self._owned)

    def read(self, length: int) -> bytes:
        """At most so many bytes; none at the end."""
        return os.read(self._reads, length)

    def write(self, data: memoryview) -> int:
        """How many of the bytes were written."""
        return os.write(self._writes, data)

    def _exactly(self, length: int) -> bytes:
        parts = []
        while length:
            part = self.read(length)
            if not part:
                raise EndedError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)
