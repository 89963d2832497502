"""What a person sees while a run goes on: live bars on a terminal, plain lines elsewhere, never silence.

A heartbeat thread speaks also while a stage says nothing (a teacher that loads, a compiler that runs).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

PLAIN_PERIOD_S: Final = 5.0
_SHOWN_NOTE: Final = 60
_LOG_WIDTH: Final = 150
_BETWEEN: Final = "waiting for Prefect"


def standard_output() -> Console:
    """The console of the command line; where there is no terminal to fit into, lines are longer."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _LOG_WIDTH
    return Console(width=width)


@dataclass
class _Current:
    """What runs now."""

    label: str
    since: float
    done: int = 0
    total: int = 0
    note: str = ""

    def line(self, now: float) -> str:
        count = f" {self.done}/{self.total}" if self.total else ""
        note = f" {self.note[:_SHOWN_NOTE]}" if self.note else ""
        return f"{self.label}{count}{note} … {now - self.since:.0f} s"


class PlainDisplay:
    """One line per event, and one every few seconds while nothing happens. For logs and pipes."""

    def __init__(self, write: Callable[[str], None], period_s: float = PLAIN_PERIOD_S) -> None:
        self._write = write
        self._period_s = period_s
        self._current: _Current | None = None
        self._lock = threading.Lock()
        self._spoken_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> PlainDisplay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def started(self, node: str) -> None:
        """Begin to speak of this node (or preparation)."""
        with self._lock:
            self._current = _Current(node, time.monotonic())

    def progressed(self, node: str, done: int, total: int, note: str) -> None:
        """Keep the numbers for the next line."""
        with self._lock:
            if self._current is not None and self._current.label == node:
                self._current.done, self._current.total, self._current.note = done, total, note

    def finished(self, node: str, how: str, seconds: float) -> None:
        """Say so at once."""
        with self._lock:
            self._current = _Current(_BETWEEN, time.monotonic())
            self._say(f"{node}: {how}" + ("" if how == "cached" else f" in {seconds:.1f} s"))

    def _say(self, text: str) -> None:
        self._spoken_at = time.monotonic()
        self._write(text)

    def _beat(self) -> None:
        while not self._ended.wait(self._period_s / 5):
            with self._lock:
                now = time.monotonic()
                if self._current is not None and now - self._spoken_at >= self._period_s:
                    self._say(self._current.line(now))


class LiveDisplay:
    """One bar per node, refreshed by rich's own thread. For terminals."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="✔"),
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> LiveDisplay:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, node: str) -> None:
        """Add the node's bar; a second try continues with the first one's."""
        if node not in self._bars:
            self._bars[node] = self._progress.add_task(node, total=None, note="")

    def progressed(self, node: str, done: int, total: int, note: str) -> None:
        """Move the bar."""
        self._progress.update(self._bars[node], completed=done, total=total or None, note=note[:_SHOWN_NOTE])

    def finished(self, node: str, how: str, seconds: float) -> None:
        """Fill the bar and say how the artifact came about."""
        bar = self._bars[node]
        total = next((t.total for t in self._progress.tasks if t.id == bar), None) or 1
        note = how if how == "cached" else f"{how} in {seconds:.1f} s"
        self._progress.update(bar, completed=total, total=total, note=note)


Display = PlainDisplay | LiveDisplay


@contextmanager
def display(console: Console) -> Iterator[Display]:
    """The display that suits the console, while the block lasts."""
    chosen: Display = (
        LiveDisplay(console)
        if console.is_terminal
        else PlainDisplay(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
    )
    with chosen:
        yield chosen
