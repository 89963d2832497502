"""How far decoding is: sequences over all units of a node, those that are there included."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

logger = logging.getLogger(__name__)

_TELL_EVERY_S: Final = 1.0


class DecodingProgress:
    """Tells a node's progress once a second, and how fast each unit was.

    Args:
        tell: called with finished sequences, their total and a note.
        n_done: sequences of units that are there.
        n_waiting: those still to be decoded.
    """

    def __init__(
        self, node_id: str, tell: Callable[[int, int, str], None], n_done: int, n_waiting: int
    ) -> None:
        self._node, self._tell = node_id, tell
        self._done, self._total = n_done, n_done + n_waiting
        self._decoded, self._began = 0, time.monotonic()
        self._sums: dict[str, tuple[int, int]] = {}
        """Tokens and forwards of each cell, so far."""
        self._last = 0.0
        self._tell(self._done, self._total, f"loading the student of {node_id}")

    def of(self, unit: str) -> Callable[[int, int], None]:
        """The callback for decoding one unit."""

        def on_step(done: int, _total: int) -> None:
            now = time.monotonic()
            if now - self._last >= _TELL_EVERY_S:
                self._last = now
                self._tell(self._done + done, self._total, unit)

        return on_step

    def finished(self, unit: str, notes: Mapping[str, Any]) -> None:
        """Tells how fast a unit was. Args: notes: n, tokens, forwards, seconds."""
        self._done += notes["n"]
        self._decoded += notes["n"]
        left = (time.monotonic() - self._began) / self._decoded * (self._total - self._done)
        tokens, forwards = self._sums.get(unit, (0, 0))
        self._sums[unit] = (tokens + notes["tokens"], forwards + notes["forwards"])
        note = f"{unit}: {notes['tokens'] / notes['forwards']:.2f} tokens per forward"
        speed = f"{notes['tokens'] / notes['seconds']:.0f} tokens/s"
        later = f", about {_duration(left)} left" if self._done < self._total else ""
        self._tell(self._done, self._total, f"{note}, {speed}{later}")
        logger.info("%s: %s, %s%s", self._node, note, speed, later)
        if len(self._sums) > 1:
            curve = ", ".join(f"{name} {n / calls:.2f}" for name, (n, calls) in self._sums.items())
            logger.info(
                "%s: tokens per forward so far: %s (accuracies come with the grades)", self._node, curve
            )


def _duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
