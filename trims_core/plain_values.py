"""Values that settings may hold: text, finite numbers, true and false, null, lists and sections by name.

They are written into keys and manifests as JSON. YAML has more (dates, sets, infinity, numbers as names), and
so has a caller in Python.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_DEEPEST: Final = 32
_SHOWN: Final = 40


def half_characters(text: str) -> bool:
    """Whether a text has half a surrogate pair, so that it cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def wrong_values(value: Any, place: str = "") -> Iterator[str]:
    """A line for each value that JSON does not have: its place, what was found, what to do."""
    where = place or "(top level)"
    if place.count(".") > _DEEPEST:
        yield f"{where[:_SHOWN]}…: nested more than {_DEEPEST} levels deep; expected a setting's value"
    elif isinstance(value, str):
        if half_characters(value):
            yield f"{where}: {value!r:.{_SHOWN}} holds half a surrogate pair; write the character itself"
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(name, str) and not half_characters(name):
                yield from wrong_values(inner, f"{place}.{name}" if place else name)
            else:
                yield f"{where}: the key {name!r:.{_SHOWN}} is no text; put it in quotes"
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        for number, inner in enumerate(value):
            yield from wrong_values(inner, f"{place}.{number}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{where}: {value} is no finite number; write one, or leave the setting out"
    elif value is not None and not isinstance(value, bool | int):
        yield (
            f"{where}: found {type(value).__name__} {value!r:.{_SHOWN}}; expected text (put it in quotes),"
            " numbers, true, false, null, lists or sections"
        )
