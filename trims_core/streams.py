"""Standard input and output of whatever encoding a terminal, a pipe or a log has."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

from trims_core.errors import InputError
from trims_core.plain_values import half_characters
from trims_core.text_files import BOM


def lenient_output() -> None:
    """Lets standard output write what its encoding lacks as `\\u2192`, as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def is_unicode(stream: object) -> bool:
    """Whether every character can be written to a stream."""
    return str(getattr(stream, "encoding", "")).lower().replace("-", "") in ("utf8", "utf16", "utf32")


def input_lines() -> Iterator[str]:
    """The lines of standard input, without a byte order mark.

    Raises:
        InputError: bytes that are not of its encoding; the message has the line.
    """
    number = 0
    try:
        for number, line in enumerate(sys.stdin, start=1):
            if half_characters(line):
                raise InputError(_undecodable(number))
            yield line.removeprefix(BOM) if number == 1 else line
    except UnicodeDecodeError as error:
        raise InputError(_undecodable(number + 1)) from error


def _undecodable(number: int) -> str:
    return (
        f"standard input, near line {number}: not {sys.stdin.encoding}; expected text in this encoding."
        " Convert it, or set PYTHONIOENCODING"
    )
