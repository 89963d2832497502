"""Bytes of a plain value, and the value of such bytes: all that a program and its judge exchange.

Plain is None, bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range, and
these types themselves.
A subclass goes as its base, with the base's own contents; anything else as a handle, a number under which its
owner keeps it. So no method of a program's own class is ever called where values are compared.
Nothing in the bytes is run: whoever reads gets a value of these types or a `NotPlainError`.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False  # importing typing would take as long as Python's start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

_MAX_DEPTH: Final = 100
_LENGTH: Final = struct.Struct("<I")
_FLOAT: Final = struct.Struct("<d")
_COMPLEX: Final = struct.Struct("<dd")
_SINGLETONS: Final = {b"N": None, b"T": True, b"F": False}
_TYPES: Final[dict[str, type]] = {
    kind.__name__: kind
    for kind in (
        *(type(None), bool, int, float, complex, str, bytes, bytearray),
        *(list, tuple, set, frozenset, dict, range),
    )
}
_SEQUENCES: Final[dict[bytes, type]] = {b"l": list, b"t": tuple, b"S": set, b"Z": frozenset}


class NotPlainError(Exception):
    """A value nests too deeply, or bytes are no value."""


def encode(value: object, handle: Callable[[object], int] | None = None) -> bytes:
    """The bytes of a value.

    Args:
        handle: the number of what is not plain. Without it such a value is refused.

    Raises:
        NotPlainError: it is not plain, nests more than 100 levels deep, or contains itself.
    """
    parts: list[bytes] = []
    _write(value, handle, parts, 0)
    return b"".join(parts)


def _write(value: Any, handle: Callable[[object], int] | None, parts: list[bytes], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise NotPlainError(f"a value nests more than {_MAX_DEPTH} levels deep")
    if value is None or value is True or value is False:
        parts.append({None: b"N", True: b"T", False: b"F"}[value])
    elif isinstance(value, int):
        whole = int.__pos__(value)
        _sized(b"i", whole.to_bytes(whole.bit_length() // 8 + 1, "little", signed=True), parts)
    elif isinstance(value, float):
        parts.append(b"f" + _FLOAT.pack(float.__pos__(value)))
    elif isinstance(value, complex):
        whole_value = complex.__pos__(value)
        parts.append(b"c" + _COMPLEX.pack(whole_value.real, whole_value.imag))
    elif isinstance(value, str):
        _sized(b"s", str.encode(value, "utf-8", "surrogatepass"), parts)
    elif isinstance(value, bytes):
        _sized(b"b", bytes.__getitem__(value, slice(None)), parts)
    elif isinstance(value, bytearray):
        _sized(b"y", bytes(bytearray.__getitem__(value, slice(None))), parts)
    elif isinstance(value, range):
        parts.append(b"r")
        for bound in (value.start, value.stop, value.step):
            _write(bound, handle, parts, depth + 1)
    elif isinstance(value, type) and _TYPES.get(value.__name__) is value:
        _sized(b"k", value.__name__.encode(), parts)
    elif isinstance(value, dict):
        items = list(dict.items(value))
        parts.append(b"d" + _LENGTH.pack(len(items)))
        for key, item in items:
            _write(key, handle, parts, depth + 1)
            _write(item, handle, parts, depth + 1)
    else:
        _write_sequence(value, handle, parts, depth)


def _write_sequence(
    value: Any, handle: Callable[[object], int] | None, parts: list[bytes], depth: int
) -> None:
    for tag, base in _SEQUENCES.items():
        if isinstance(value, base):
            items = list(base.__iter__(value))  # type: ignore[attr-defined]
            parts.append(tag + _LENGTH.pack(len(items)))
            for item in items:
                _write(item, handle, parts, depth + 1)
            return
    if handle is None:
        raise NotPlainError(f"a {type(value).__name__} is no plain value")
    parts.append(b"h" + _LENGTH.pack(handle(value)))


def _sized(tag: bytes, data: bytes, parts: list[bytes]) -> None:
    parts.append(tag + _LENGTH.pack(len(data)) + data)


def decode(data: bytes, owned: Callable[[int], object] | None = None) -> Any:
    """The value of these bytes, whoever wrote them.

    Args:
        owned: what stands for a handle's number. Without it handles are refused.

    Raises:
        NotPlainError: the bytes are no value.
    """
    reader = _Reader(data, owned)
    try:
        value = reader.value(0)
    except (struct.error, UnicodeDecodeError, TypeError, ValueError, KeyError) as error:
        raise NotPlainError(f"the bytes are no value: {error}") from error
    if reader.at != len(data):
        raise NotPlainError("more bytes than a value has")
    return value


class _Reader:
    def __init__(self, data: bytes, owned: Callable[[int], object] | None) -> None:
        self._data = data
        self._owned = owned
        self.at = 0

    def value(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise NotPlainError(f"a value nests more than {_MAX_DEPTH} levels deep")
        tag = self._take(1)
        if tag in _SINGLETONS:
            return _SINGLETONS[tag]
        if tag == b"f":
            return _FLOAT.unpack(self._take(8))[0]
        if tag == b"c":
            return complex(*_COMPLEX.unpack(self._take(16)))
        if tag == b"r":
            return range(self.value(depth + 1), self.value(depth + 1), self.value(depth + 1))
        length = _LENGTH.unpack(self._take(4))[0]
        if tag in _SEQUENCES:
            return _SEQUENCES[tag](self.value(depth + 1) for _ in range(length))
        if tag == b"d":
            return {self.value(depth + 1): self.value(depth + 1) for _ in range(length)}
        if tag == b"h" and self._owned is not None:
            return self._owned(length)
        return self._scalar(tag, self._take(length))

    def _scalar(self, tag: bytes, data: bytes) -> Any:
        if tag == b"i":
            return int.from_bytes(data, "little", signed=True)
        if tag == b"s":
            return data.decode("utf-8", "surrogatepass")
        if tag == b"b":
            return data
        if tag == b"y":
            return bytearray(data)
        if tag == b"k":
            return _TYPES[data.decode()]
        raise ValueError(f"no type has the mark {tag!r}")

    def _take(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self._data):
            raise ValueError("they end too early")
        taken = self._data[self.at : end]
        self.at = end
        return taken
