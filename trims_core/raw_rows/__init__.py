"""Rows as people's files have them: read with their places, and everything wrong with them told at once."""

from trims_core.raw_rows.fields import UnusableRowError, id_in, kind_of, says_something, text_in
from trims_core.raw_rows.files import Columns, Row, Source, read_rows
from trims_core.raw_rows.problems import Copy, Problems

__all__ = [
    "Columns",
    "Copy",
    "Problems",
    "Row",
    "Source",
    "UnusableRowError",
    "id_in",
    "kind_of",
    "read_rows",
    "says_something",
    "text_in",
]
