"""A stage's progress while it runs: to listeners at once, to Prefect from a thread and seldom."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks import listeners
from tasks.outages import one_try

logger = logging.getLogger(__name__)

ARTIFACT_PERIOD_S: Final = 2.0
AWAY_PERIOD_S: Final = 30.0
LOG_PERIOD_S: Final = 20.0
_LAST_WORD_S: Final = 10.0
"""How long a server may take for the last update before it is left alone."""


class StageProgress:
    """What `run_node` calls with (done, total, note), inside a `with` block.

    A server that is slow or gone costs the progress bar, never the stage: calls return at once, a failure is
    one warning, and the server is asked again after half a minute.
    """

    def __init__(self, node: str, artifact_key: str, period_s: float = ARTIFACT_PERIOD_S) -> None:
        self._node = node
        self._key = artifact_key
        self._period_s = period_s
        self._artifact: UUID | None = None
        self._latest: tuple[float, str] | None = None
        self._reported = False
        self._warned = False
        self._news = threading.Condition()
        self._ended = threading.Event()
        self._logged_at = time.monotonic()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show 100 % if the stage came to its end and showed anything before."""
        with self._news:
            done = (100.0, f"{self._node}: done")
            self._latest = done if self._reported and kind is None else None
            self._ended.set()
            self._news.notify()
        self._thread.join(_LAST_WORD_S)

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Pass it on; never waits."""
        listeners.progressed(self._node, done, total, note)
        with self._news:
            self._reported = True
            self._latest = (_percent(done, total), f"{self._node}: {done}/{total or '?'} {note}".rstrip())
            self._news.notify()
        now = time.monotonic()
        if now - self._logged_at >= LOG_PERIOD_S:
            self._logged_at = now
            logger.info("%s: %d/%s %s", self._node, done, total or "?", note)

    def _work(self) -> None:
        """Send what is newest, wait, again; at the end what is newest then."""
        with one_try():
            while True:
                with self._news:
                    self._news.wait_for(lambda: self._latest is not None or self._ended.is_set())
                    latest, self._latest = self._latest, None
                taken = latest is None or self._send(*latest)
                if self._ended.wait(self._period_s if taken else AWAY_PERIOD_S):
                    break
            if self._latest is not None:
                self._send(*self._latest)

    def _send(self, percent: float, description: str) -> bool:
        """Whether the server took it."""
        try:
            if self._artifact is not None:
                update_progress_artifact(self._artifact, percent, description=description)
            else:
                made = create_progress_artifact(percent, key=self._key, description=description)
                self._artifact = made if isinstance(made, UUID) else None
        except Exception as error:  # noqa: BLE001 - whatever a server makes of it, the stage goes on
            if not self._warned:
                logger.warning("Prefect does not take progress (%s); the stage goes on without", error)
            self._warned = True
            return False
        return True


def _percent(done: int, total: int) -> float:
    return min(100.0, 100.0 * done / total) if total > 0 else 0.0
