"""Fields of a row that must hold text, and how a value that does not is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trims_core.plain_values import half_characters

_SHOWN: Final = 40


class UnusableRowError(Exception):
    """One row cannot be used; caught by whoever reads rows, and collected."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True)
class Unreadable:
    """In place of a value that a file holds but nothing here does; no harm where nobody asks for it."""

    what: str

    def __repr__(self) -> str:
        return self.what


def text_in(
    values: Mapping[str, Any], column: str, remedy: str = "add it to the row", *, blank: bool = True
) -> str:
    """The text of a column.

    Args:
        remedy: what to do where there is no such column.
        blank: whether white space alone will do.

    Raises:
        UnusableRowError: no such column, another type, half a surrogate pair, or nothing in it.
    """
    text = checked_text(field_in(values, column, remedy), repr(column))
    if not blank and not text.strip():
        raise UnusableRowError(f"{column!r} is empty", "write a text or delete the row")
    return text


def field_in(values: Mapping[str, Any], column: str, remedy: str) -> Any:
    """Whatever a column holds. Raises: UnusableRowError, naming the columns there are."""
    if column not in values:
        raise UnusableRowError(f"no column {column!r} (found {', '.join(values) or 'nothing'})", remedy)
    return values[column]


def checked_text(value: Any, name: str) -> str:
    """The value. Raises: UnusableRowError unless it is text that UTF-8 can hold."""
    if not isinstance(value, str):
        raise UnusableRowError(f"{name} is {kind_of(value)}", "expected text")
    if half_characters(value):
        raise UnusableRowError(f"{name} holds half a surrogate pair", "write the character itself")
    return value


def id_in(values: Mapping[str, Any], column: str) -> str | None:
    """The id that a row gives; None where it gives none. Raises: UnusableRowError."""
    value = values.get(column)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UnusableRowError(f"the id in {column!r} is {kind_of(value)}", "expected text or a whole number")
    text = checked_text(str(value), f"the id in {column!r}")
    if not text.strip():
        raise UnusableRowError(f"the id in {column!r} is empty", "give one, or drop the column")
    return text


def says_something(value: Any) -> bool:
    """Whether a field was filled in: Parquet gives every row all fields, most of them null or empty."""
    if isinstance(value, Mapping):
        return any(isinstance(inner, bool | int | float) or says_something(inner) for inner in value.values())
    return isinstance(value, Unreadable) or bool(value)


def kind_of(value: Any) -> str:
    """A value's type and, cut short, the value."""
    if value is None:
        return "null"
    if isinstance(value, Unreadable):
        return value.what
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"
