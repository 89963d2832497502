"""Rows that a stage cannot use: counted by reason, named, and judged against a budget.

Units note `{reason: {n, ids, detail}}`; the rows themselves are in their rejects.parquet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from trims_core.errors import TeacherError

REJECTS_FILE: Final = "rejects.parquet"
COLUMNS: Final = ("id", "reason", "detail")
_IDS_KEPT: Final = 20

Rejected = Mapping[str, Mapping[str, Any]]
"""Reason → n, ids (the first ones) and detail (of the first)."""


class Rejects:
    """The rejects of a unit, in the order in which they are found."""

    def __init__(self) -> None:
        self.columns: dict[str, list[str]] = {name: [] for name in COLUMNS}
        """Of schema.REJECTS."""

    def add(self, row_id: str, reason: str, detail: str) -> None:
        """Note a row."""
        for name, text in zip(COLUMNS, (row_id, reason, detail), strict=True):
            self.columns[name].append(text)

    def __len__(self) -> int:
        return len(self.columns["id"])

    def notes(self) -> dict[str, dict[str, Any]]:
        """By reason, for a unit's record."""
        found: dict[str, dict[str, Any]] = {}
        for row_id, reason, detail in zip(*self.columns.values(), strict=True):
            one = found.setdefault(reason, {"n": 0, "ids": [], "detail": f"{row_id}: {detail}"})
            one["n"] += 1
            one["ids"] = [*one["ids"], row_id][:_IDS_KEPT]
        return found


def merged(noted: Iterable[Rejected]) -> dict[str, dict[str, Any]]:
    """The rejects of several units, the most frequent reason first."""
    found: dict[str, dict[str, Any]] = {}
    for rejected in noted:
        for reason, about in rejected.items():
            one = found.setdefault(reason, {"n": 0, "ids": [], "detail": about["detail"]})
            one["n"] += about["n"]
            one["ids"] = [*one["ids"], *about["ids"]][:_IDS_KEPT]
    return dict(sorted(found.items(), key=lambda item: (-item[1]["n"], item[0])))


def reject_counts(rejected: Rejected) -> dict[str, int]:
    """n_rejected, and n_<reason> for each."""
    by_reason = {f"n_{reason}": int(about["n"]) for reason, about in rejected.items()}
    return {"n_rejected": sum(by_reason.values())} | by_reason


def check_budget(
    stage: str,
    max_fraction: float,
    n_total: int,
    rejected: Rejected,
    kind: type[TeacherError],
    expected: str,
    setting: str = "scores.max_rejected_fraction",
) -> None:
    """Raises `kind` if more rows were rejected than the setting's fraction of all allows."""
    n_rejected = reject_counts(rejected)["n_rejected"]
    if n_rejected <= max_fraction * n_total + 1e-9:
        return
    what = "; ".join(f"{about['n']} {reason} (ids {_ids(about)})" for reason, about in rejected.items())
    enough = min(1.0, -(-n_rejected * 1000 // n_total) / 1000)
    raise kind(
        f"{stage}: {n_rejected} of {n_total} rows were rejected, allowed are {max_fraction:g} of them:"
        f" {what}; for instance: {next(iter(rejected.values()))['detail']}. Expected {expected}. Correct the"
        f" rows or what refuses them, or leave them out with --set {setting}={enough:g};"
        " finished shards are kept"
    )


def reject_lines(rejected: Rejected) -> list[str]:
    """A line of a card per reason."""
    return [
        f"- {reason}: {about['n']} ({_ids(about)}); {about['detail']}" for reason, about in rejected.items()
    ]


def _ids(about: Mapping[str, Any]) -> str:
    ids: Sequence[str] = about["ids"]
    return ", ".join(ids) + (f" and {about['n'] - len(ids)} more" if about["n"] > len(ids) else "")
