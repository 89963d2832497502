"""Examples exactly as a model reads them, for a stage's card: three, of different forms where there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trims_core.rendering import RenderedRows

N_SHOWN: Final = 3
_LONGEST: Final = 6000
"""Characters of a text that is shown whole."""

Shown = dict[str, Any]
"""id, form of the header, where the answer begins, and the whole text."""


def shown_rows(rows: RenderedRows, ids: Sequence[str], completions: Sequence[str], end: str) -> list[Shown]:
    """Up to three rows, of as many forms as there are.

    Args:
        end: the end of turn, as text.
    """
    found: list[Shown] = []
    for row, (row_id, completion) in enumerate(zip(ids, completions, strict=True)):
        form, prompt = str(rows.forms[row]), rows.prompt_texts[row]
        if row in rows.refused or (len(found) >= N_SHOWN and any(one["form"] == form for one in found)):
            continue
        text = _cut(f"{prompt}{completion}{end}")
        found.append({"id": row_id, "form": form, "start": len(prompt), "text": text})
    return choose(found)


def choose(shown: Iterable[Shown]) -> list[Shown]:
    """Three of them, the first of every form before others."""
    everything = list(shown)
    first_of = {one["form"]: place for place, one in reversed(list(enumerate(everything)))}
    order = sorted(range(len(everything)), key=lambda p: (first_of[everything[p]["form"]] != p, p))
    return [everything[place] for place in sorted(order[:N_SHOWN])]


def card_lines(shown: Sequence[Shown], reader: str) -> list[str]:
    """A section of a card. Args: reader: who reads, such as `teacher`."""
    if not shown:
        return []
    lines = [f"## As the {reader} reads it", ""]
    for one in shown:
        fence = "~" * (1 + max([2, *map(len, re.findall("~+", one["text"]))]))
        lines += [
            f"`{one['id']}`: the template's header {one['form']}; the answer begins behind character"
            f" {one['start']}.",
            "",
            f"{fence}text",
            one["text"],
            fence,
            "",
        ]
    return lines


def _cut(text: str) -> str:
    """The text, or its two ends and what is missing between them."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters …]\n{text[-half:]}"
