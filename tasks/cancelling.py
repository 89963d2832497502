"""A cancel in Prefect's UI reaches a run although no worker passes it on.

A worker that has lived through an outage of minutes may hear no cancel any more, and `trims run` has no
worker: the run looks at its own state.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Final
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run

from tasks.outages import one_try

logger = logging.getLogger(__name__)

POLL_VARIABLE: Final = "TRIMS_CANCEL_POLL_S"
_WORKERS_TIME_S: Final = 45.0
"""A worker that hears of a cancel ends the run's process before that."""
_CANCELLED: Final = frozenset((StateType.CANCELLING, StateType.CANCELLED))


@contextmanager
def ended_by_a_cancel() -> Iterator[threading.Event]:
    """While the block runs, a cancel of this run that nobody acts on becomes a SIGTERM and sets the event."""
    over, asked = threading.Event(), threading.Event()
    in_context = copy_context().run  # Prefect's settings are context variables
    watch = threading.Thread(target=in_context, args=(_watch, UUID(flow_run.id), over, asked), daemon=True)
    watch.start()
    try:
        yield asked
    finally:
        over.set()
        watch.join()


def _watch(run: UUID, over: threading.Event, asked: threading.Event) -> None:
    poll_s = float(os.environ.get(POLL_VARIABLE, "10"))
    while not over.wait(poll_s):
        if _is_cancelled(run):
            break
    by_a_worker = "PREFECT__FLOW_RUN_ID" in os.environ
    if over.wait(_WORKERS_TIME_S if by_a_worker else 0.0):
        return
    logger.warning("this run was cancelled; it saves what it can and ends")
    asked.set()
    os.kill(os.getpid(), signal.SIGTERM)


def _is_cancelled(run: UUID) -> bool:
    try:
        with one_try(), get_client(sync_client=True) as client:
            state = client.read_flow_run(run).state
    except httpx.HTTPError:  # the server is away: see `tasks.outages`
        return False
    return state is not None and state.type in _CANCELLED
