"""Lengths of blocks as settings: a number of tokens, or the whole answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from trims_core.sections import as_tuple


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _length(value: Any) -> Any:
    if value in (None, "whole") or _is_length(value):
        return value
    raise ValueError("expected a number of tokens from 1 on, or whole (the whole answer)")


def _lengths(value: Any) -> Any:
    lengths = as_tuple(value)
    if value in (None, "whole") or (isinstance(lengths, tuple) and lengths and all(map(_is_length, lengths))):
        return value if value == "whole" else lengths
    raise ValueError("expected numbers of tokens from 1 on, or whole (the whole answer)")


BlockLength = Annotated[int | Literal["whole"] | None, BeforeValidator(_length)]
BlockLengths = Annotated[tuple[int, ...] | Literal["whole"] | None, BeforeValidator(_lengths)]
"""One, or several over the run."""
