"""A table as rows of ready text, for the page, Markdown and CSV; a dash stands where there is nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

DASH: Final = "–"


@dataclass(frozen=True)
class TextTable:
    """A caption, a header and rows of text; the first column names the row."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """A GitHub table under its caption."""
        lines = [self.caption, "", _line(self.header), _line(["---"] + ["---:"] * (len(self.header) - 1))]
        return "\n".join([*lines, *(_line(row) for row in self.rows)]) + "\n"

    def csv(self) -> str:
        """Header and rows as RFC 4180 has them."""
        text = io.StringIO()
        csv.writer(text).writerows((self.header, *self.rows))
        return text.getvalue()


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
