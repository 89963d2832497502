"""Which failures are worth another try, and how failures look in the logs. The only place for both."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGTERM
from typing import Any, Final

from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal

from trims_core.errors import InterruptedRunError, TrimsError

RETRIES: Final = 2
RETRY_DELAYS_S: Final = [5, 30]


def worth_a_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether a failed task is tried again: errors that say so, except an interruption.

    Whoever interrupts a run wants it to end; everything else that is retryable (a teacher that died, a
    full disk) may be over a few seconds later.
    """
    error = state.result(raise_on_failure=False)
    return isinstance(error, TrimsError) and error.retryable and not isinstance(error, InterruptedRunError)


@contextmanager
def interruption_ends_the_run() -> Iterator[None]:
    """Turn a stage's interruption into Prefect's: the run is shown as cancelled or crashed, not as failed."""
    try:
        yield
    except InterruptedRunError as error:
        raise TerminationSignal(signal=SIGTERM) from error


class ReadableErrors(logging.Filter):
    """Errors raised on purpose are logged as their message; other tracebacks once, not at every level."""

    def __init__(self) -> None:
        super().__init__()
        self._last: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; may shorten the record."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is None:
            return True
        if isinstance(error, TrimsError):
            record.msg, record.args = f"{type(error).__name__}: {error}", None
        if isinstance(error, TrimsError) or error is self._last:
            record.exc_info = record.exc_text = None
        self._last = error
        return True


def install_readable_errors() -> None:
    """Attach the filter to Prefect's run loggers (once); let what stages say pass to them.

    Prefect gives the loggers of PREFECT_LOGGING_EXTRA_LOGGERS a handler and leaves their level at warnings.
    """
    for name in ("trims_core", "tasks"):
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.INFO)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        target = logging.getLogger(name)
        if not any(isinstance(known, ReadableErrors) for known in target.filters):
            target.addFilter(_FILTER)


_FILTER: Final = ReadableErrors()
