"""A Prefect server that is away costs what its UI shows, never a result.

While a stage runs nothing of a run waits for the server: states of tasks, progress and logs are sent by
threads. What a run does itself (publish, report its end) goes through here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

logger = logging.getLogger(__name__)

PATIENCE_VARIABLE: Final = "TRIMS_SERVER_PATIENCE_S"
_POLL_S: Final = 2.0
_TELL_EVERY_S: Final = 60.0


def shown(what: str, publish: Callable[[], object]) -> None:
    """Publish something that Prefect's UI is to show. A failure is a warning and no more."""
    try:
        publish()
    except Exception as error:  # noqa: BLE001 - whatever a server makes of it, the result is there
        logger.warning("Prefect does not show %s (%r); the run goes on", what, error)


def one_try() -> AbstractContextManager[object]:
    """Prefect's client without its retries: a server that is away holds nobody up."""
    return temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0})


@contextmanager
def outlasted() -> Iterator[None]:
    """Before a flow's end can be reported, wait until the server answers; at most TRIMS_SERVER_PATIENCE_S.

    Prefect's client gives up after a minute, and the run would be shown as crashed. Its retries double their
    pauses without a limit, so that a run would also hear of the server's return late. Default: no wait.
    """
    try:
        yield
    finally:
        _await_server(float(os.environ.get(PATIENCE_VARIABLE, "0")))


def _await_server(patience_s: float) -> None:
    began = told = time.monotonic()
    if patience_s <= 0 or _answers():
        return
    logger.warning("Prefect's server does not answer; the run waits up to %.0f s to report", patience_s)
    while not _answers() and time.monotonic() - began < patience_s:
        if time.monotonic() - told >= _TELL_EVERY_S:
            told = time.monotonic()
            logger.warning("Prefect's server does not answer for %.0f s", told - began)
        time.sleep(_POLL_S)
    # Events that were not taken are sent again before the next one: among them are states of tasks.
    run = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}"}
    shown("the outage", lambda: emit_event("trims.server.returned", resource=run))


def _answers() -> bool:
    with one_try(), get_client(sync_client=True) as client:
        return client.api_healthcheck() is None
