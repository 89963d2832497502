"""Tables of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich import box
from rich.markup import escape
from rich.table import Table

from trims_core.doctor import Finding
from trims_core.plan import PlanRow

_STYLES: Final = {"hit": "green", "miss": "yellow", "unknown": "yellow"}
_STATES: Final = {"ok": "green", "look": "yellow", "wrong": "red"}
_SHOWN_FINGERPRINT: Final = 12


def plan_table(rows: Iterable[PlanRow], words: Mapping[str, str]) -> Table:
    """One row per node: its state (in these words), fingerprint and why."""
    table = _table("stage", "state", "fingerprint", "why")
    for row in rows:
        state = f"[{_STYLES[row.state]}]{words.get(row.state, row.state)}[/]"
        table.add_row(row.node.id, state, (row.fingerprint or "")[:_SHOWN_FINGERPRINT], row.why)
    return table


def findings_table(findings: Iterable[Finding]) -> Table:
    """One row per finding of the doctor."""
    table = _table("about", "state", "found")
    for one in findings:
        table.add_row(one.about, f"[{_STATES[one.state]}]{one.state}[/]", escape(one.text))
    return table


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Rows of text under these headings."""
    table = _table(*columns)
    for row in rows:
        table.add_row(*row)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
