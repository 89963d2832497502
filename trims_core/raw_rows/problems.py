"""Everything wrong with an input, collected first and reported once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from trims_core.errors import CorpusError, DuplicateIdError, InputError

LISTED: Final = 20
"""Problems named in a message; the rest is counted."""


@dataclass(frozen=True)
class Copy:
    """A row whose id is that of an earlier one."""

    example_id: str
    place: str
    content_digest: str


@dataclass
class Problems:
    """Rows that cannot be used, and ids that occur twice."""

    about: str
    """What the rows are of, for messages: `corpus`, or a benchmark's name."""
    instead: str = ""
    """What else can be done about copies than to delete them."""
    lines: list[str] = field(default_factory=list)
    n_unusable: int = 0
    n_duplicates: int = 0
    copies: dict[int, Copy] = field(default_factory=dict)
    """Number of a line → the copy it is about, until it is known where the first one is."""

    def __bool__(self) -> bool:
        return self.n_unusable + self.n_duplicates > 0

    def unusable(self, place: str, what: str, remedy: str) -> None:
        """Note a row that cannot be used. `place` is file:line."""
        self.n_unusable += 1
        self._note(f"{place}: {what}; {remedy}")

    def duplicate(self, copy: Copy) -> None:
        """Note an id seen before; where, is told by `first_seen`."""
        self.n_duplicates += 1
        if len(self.lines) < LISTED:
            self.copies[len(self.lines)] = copy
        self._note(f"{copy.place}: id {copy.example_id!r} was already used")

    def first_seen(self, first: Copy) -> None:
        """Complete the lines about copies of a row; asked for every row until `copies` is empty."""
        about = [number for number, copy in self.copies.items() if copy.example_id == first.example_id]
        for number in about:
            same = self.copies.pop(number).content_digest == first.content_digest
            what = "with the same content" if same else "with different content"
            self.lines[number] += f" at {first.place}, {what}"

    def error(self) -> InputError:
        """The one error that tells all: DuplicateIdError if ids are all that is wrong, else CorpusError."""
        total = self.n_unusable + self.n_duplicates
        shown = "".join(f"\n  {line}" for line in self.lines)
        more = f"\n  … and {total - len(self.lines)} more" if total > len(self.lines) else ""
        if self.n_unusable == 0:
            return DuplicateIdError(
                f"{self.about}: {total} duplicate(s); expected every id once:{shown}{more}\n"
                f"Delete the copies or give them other ids{self.instead}"
            )
        head = f"{self.about}: {self.n_unusable} row(s) cannot be used"
        if self.n_duplicates:
            head += f" and {self.n_duplicates} duplicate(s)"
        return CorpusError(f"{head}; expected none. Correct or delete them:{shown}{more}")

    def _note(self, line: str) -> None:
        if len(self.lines) < LISTED:
            self.lines.append(line)
