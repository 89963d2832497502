"""The displays: events at once, a line while nothing happens, unknown totals, second tries."""

from __future__ import annotations

import io
import threading

from rich.console import Console

from flows.console import LiveDisplay, PlainDisplay


class _Lines:
    """Collects lines and lets a test wait for one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def wait_for(self, n: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.lines) >= n, timeout=20)


def test_a_silent_stage_is_spoken_of() -> None:
    lines = _Lines()
    with PlainDisplay(lines, period_s=0.02) as shown:
        shown.started("scores")
        lines.wait_for(2)
    assert lines.lines[0].startswith("scores … ")


def test_the_latest_numbers_are_in_the_line() -> None:
    lines = _Lines()
    with PlainDisplay(lines, period_s=0.02) as shown:
        shown.started("scores")
        shown.progressed("scores", 3, 12, "rows")
        lines.wait_for(1)
    assert lines.lines[-1].startswith("scores 3/12 rows … ")


def test_events_are_lines_of_their_own_and_nothing_follows_the_last() -> None:
    lines = _Lines()
    with PlainDisplay(lines, period_s=3600) as shown:
        shown.started("corpus")
        shown.finished("corpus", "cached", 0.0)
        shown.started("scores")
        shown.finished("scores", "made", 1.25)
    assert lines.lines == ["corpus: cached", "scores: made in 1.2 s"]


def test_bars_take_unknown_totals_and_a_second_try() -> None:
    out = io.StringIO()
    with LiveDisplay(Console(file=out, force_terminal=True, width=120)) as shown:
        shown.started("scores")
        shown.progressed("scores", 3, 0, "rows")
        shown.started("scores")
        shown.progressed("scores", 5, 12, "rows")
        shown.finished("scores", "made", 2.0)
    assert "made in 2.0 s" in out.getvalue()
