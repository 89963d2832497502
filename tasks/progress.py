"""A stage's progress while it runs: to listeners at once, to Prefect at most every few seconds."""

from __future__ import annotations

import logging
import time
from typing import Final
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from tasks import listeners

logger = logging.getLogger(__name__)

ARTIFACT_PERIOD_S: Final = 2.0
LOG_PERIOD_S: Final = 20.0


class StageProgress:
    """What `run_node` calls with (done, total, note).

    A server that does not answer costs the progress bar, never the stage: after the first failure nothing
    more is sent, and a warning says so.
    """

    def __init__(self, node: str, artifact_key: str) -> None:
        self._node = node
        self._key = artifact_key
        self._artifact: UUID | None = None
        self._muted = False
        self._sent_at = -float("inf")
        self._logged_at = time.monotonic()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Pass it on."""
        listeners.progressed(self._node, done, total, note)
        now = time.monotonic()
        if now - self._sent_at >= ARTIFACT_PERIOD_S:
            self._sent_at = now
            self._send(_percent(done, total), f"{self._node}: {done}/{total or '?'} {note}".rstrip())
        if now - self._logged_at >= LOG_PERIOD_S:
            self._logged_at = now
            logger.info("%s: %d/%s %s", self._node, done, total or "?", note)

    def finish(self) -> None:
        """Show 100 %, if anything was shown."""
        if self._artifact is not None:
            self._send(100.0, f"{self._node}: done")

    def _send(self, percent: float, description: str) -> None:
        if self._muted:
            return
        try:
            if self._artifact is None:
                made = create_progress_artifact(percent, key=self._key, description=description)
                self._artifact = made if isinstance(made, UUID) else None
            else:
                update_progress_artifact(self._artifact, percent, description=description)
        except (httpx.HTTPError, PrefectException) as error:
            self._muted = True
            logger.warning("Prefect's server does not take progress (%s); the stage goes on without", error)


def _percent(done: int, total: int) -> float:
    return min(100.0, 100.0 * done / total) if total > 0 else 0.0
