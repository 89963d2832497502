"""Progress: every call reaches listeners, few reach the server, a dead server costs nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tasks import listeners, progress
from tasks.progress import StageProgress


class _Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def started(self, node: str) -> None:
        self.heard.append(("started", node))

    def progressed(self, node: str, done: int, total: int, note: str) -> None:
        self.heard.append((node, done, total, note))

    def finished(self, node: str, how: str, seconds: float) -> None:
        self.heard.append(("finished", node, how))


class _Server:
    """Takes percentages; answers only once it is released."""

    def __init__(self) -> None:
        self.sent: list[float] = []
        self.released = threading.Event()
        self.error: Exception | None = None

    def create(self, percent: float, key: str, description: str) -> UUID:
        self._take(percent)
        return uuid4()

    def update(self, artifact: UUID, percent: float, description: str) -> None:
        self._take(percent)

    def _take(self, percent: float) -> None:
        self.sent.append(percent)
        assert self.released.wait(20)
        if self.error is not None:
            raise self.error


def until_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "not within time"
        time.sleep(0.01)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> _Server:
    found = _Server()
    monkeypatch.setattr(progress, "create_progress_artifact", found.create)
    monkeypatch.setattr(progress, "update_progress_artifact", found.update)
    return found


def test_a_slow_server_holds_nobody_up_and_hears_little(server: _Server) -> None:
    with StageProgress("scores", "key", period_s=0.0) as report:
        report(0, 1000)
        for done in range(1000):
            report(done, 1000)
        server.released.set()
    assert server.sent[-1] == 100.0
    assert len(server.sent) <= 3


def test_listeners_hear_everything_while_they_listen(server: _Server) -> None:
    server.released.set()
    listener = _Listener()
    with StageProgress("scores", "key") as report:
        with listeners.listening(listener):
            report(1, 0, "rows")
            report(2, 9, "rows")
        report(3, 9, "rows")
    assert listener.heard == [("scores", 1, 0, "rows"), ("scores", 2, 9, "rows")]


def test_a_dead_server_is_hardly_asked_and_the_stage_goes_on(
    server: _Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.error = httpx.ConnectError("refused")
    server.released.set()
    with StageProgress("scores", "key", period_s=0.0) as report:
        for done in range(5):
            report(done, 5)
    assert 1 <= len(server.sent) <= 2, "once, and once more at the end"
    assert caplog.text.count("goes on without") == 1


def test_progress_is_shown_again_once_the_server_is_back(
    server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "AWAY_PERIOD_S", 0.05)
    server.error = httpx.ConnectError("refused")
    server.released.set()
    with StageProgress("scores", "key", period_s=0.0) as report:
        report(1, 4)
        until_true(lambda: len(server.sent) == 1)
        server.error = None
        report(3, 4)
        until_true(lambda: server.sent[-1] == 75.0)
    assert server.sent[-1] == 100.0


def test_a_stage_that_reports_nothing_shows_nothing(server: _Server) -> None:
    with StageProgress("corpus", "key"):
        pass
    assert server.sent == []


def test_a_stage_that_failed_is_not_shown_as_done(server: _Server) -> None:
    server.released.set()
    with pytest.raises(ValueError, match="bug"), StageProgress("corpus", "key", period_s=0.0) as report:
        report(1, 4)
        raise ValueError("bug")
    assert 100.0 not in server.sent
