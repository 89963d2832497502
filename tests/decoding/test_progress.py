"""What is told while a sweep decodes: speed, time left, and the curve as far as it is known."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from trims_core.decoding.progress import DecodingProgress


def notes(n: int, tokens: int, forwards: int) -> dict[str, Any]:
    """Of a unit that took four seconds."""
    return {"n": n, "tokens": tokens, "forwards": forwards, "seconds": 4.0}


def test_a_finished_unit_tells_speed_time_left_and_the_curve_so_far(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    said: list[tuple[int, int, str]] = []
    tell = DecodingProgress("sweep/x", lambda *what: said.append(what), 10, 30)
    with caplog.at_level(logging.INFO, "trims_core.decoding.progress"):
        clock[0] = 60.0
        tell.finished("demo at threshold 0.9", notes(10, 100, 50))
        clock[0] = 120.0
        tell.finished("demo at threshold 0.5", notes(5, 100, 25))
        tell.finished("demo at threshold 0.5", notes(5, 50, 25))
    assert said[1] == (
        20,
        40,
        "demo at threshold 0.9: 2.00 tokens per forward, 25 tokens/s, about 2 min left",
    )
    last = caplog.records[-1].message
    assert last.startswith(
        "sweep/x: tokens per forward so far: demo at threshold 0.9 2.00, demo at threshold 0.5 3.00"
    )
    tell.finished("demo at threshold 0.3", notes(10, 100, 20))
    assert said[-1][2] == "demo at threshold 0.3: 5.00 tokens per forward, 25 tokens/s"
