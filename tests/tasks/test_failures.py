"""Which failures are tried again, and what the logs show of them."""

from __future__ import annotations

import logging
import sys

import pytest
from prefect.exceptions import TerminationSignal
from prefect.states import Failed

from tasks.failures import ReadableErrors, interruption_ends_the_run, worth_a_retry
from trims_core.errors import (
    ConfigError,
    CorruptShardError,
    DiskFullError,
    InterruptedRunError,
    TeacherUnavailableError,
)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (TeacherUnavailableError("died"), True),
        (DiskFullError("full"), True),
        (InterruptedRunError("ctrl-c"), False),
        (ConfigError("wrong"), False),
        (CorruptShardError("rotten"), False),
        (ValueError("a bug"), False),
    ],
)
def test_only_passing_troubles_are_tried_again(error: Exception, again: bool) -> None:
    assert worth_a_retry(None, None, Failed(data=error)) is again


def test_an_interruption_becomes_prefects_own() -> None:
    with pytest.raises(TerminationSignal), interruption_ends_the_run():
        raise InterruptedRunError("stopped")


def _record(error: Exception) -> logging.LogRecord:
    try:
        raise error
    except type(error):
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, "f", 1, "Encountered exception during execution: %r", (error,), sys.exc_info()
        )
    return record


def test_an_error_raised_on_purpose_is_its_message() -> None:
    record = _record(ConfigError("buckets.k: 0 is too small"))
    assert ReadableErrors().filter(record)
    assert logging.Formatter().format(record) == "ConfigError: buckets.k: 0 is too small"


def test_a_bug_keeps_its_traceback_once() -> None:
    readable, bug = ReadableErrors(), ZeroDivisionError("a bug")
    task, flow = _record(bug), _record(bug)
    readable.filter(task)
    readable.filter(flow)
    assert "Traceback" in logging.Formatter().format(task)
    assert "Traceback" not in logging.Formatter().format(flow)
    assert "a bug" in logging.Formatter().format(flow)


def test_other_records_pass_unchanged() -> None:
    record = logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, "%d rows", (3,), None)
    ReadableErrors().filter(record)
    assert record.getMessage() == "3 rows"
