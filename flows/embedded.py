"""Running a flow inside this process, with a Prefect server of our own where none is configured.

Prefect reads its settings when it is imported: this module sets them first and imports it late.
"""

from __future__ import annotations

import importlib
import os
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from flows.console import Display, display
from flows.server import direct_loopback, is_healthy, serving
from trims_core.errors import InterruptedRunError, TrimsError
from trims_core.text_files import text_of

_PREPARATION: Final = "prefect server"
_QUIET: Final = {
    # The command line has its own display and its own error messages; the server keeps all logs.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
_ALWAYS: Final = {
    "PREFECT_LOGGING_EXTRA_LOGGERS": "trims_core,tasks",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


def run_flow(
    where: str, parameters: Mapping[str, Any], homes: Path, console: Console, *, verbose: bool = False
) -> Any:
    """What a flow gives back, shown on the console while it runs.

    Args:
        where: `module:flow`; it is imported once Prefect's settings are there.
        homes: where PREFECT_HOMEs for a server of our own go.
        verbose: show Prefect's logs too.

    Raises:
        TrimsError: from a stage, or because the Prefect server went away.
        InterruptedRunError: SIGTERM, Ctrl-C or a cancel in Prefect's UI.
    """
    for name, value in {**_ALWAYS, **({} if verbose else _QUIET)}.items():
        os.environ.setdefault(name, value)
    os.environ.update(direct_loopback(os.environ))
    with display(console) as shown, _api(homes, shown) as api_url:
        shown.started("prefect client")
        begun = time.monotonic()
        module, _, flow = where.partition(":")
        run = getattr(importlib.import_module(module), flow)
        from tasks.listeners import listening

        shown.finished("prefect client", "ready", time.monotonic() - begun)
        with _readable(api_url), listening(shown):
            return run(**parameters)


@contextmanager
def _api(homes: Path, shown: Display) -> Iterator[str]:
    """The URL of the configured server, or of one that lives as long as the block."""
    configured = configured_api_url(os.environ)
    if configured is not None:
        yield configured
        return
    begun = time.monotonic()
    shown.started(_PREPARATION)
    with serving(homes, for_one_run=True) as server:
        shown.finished(_PREPARATION, "ready", time.monotonic() - begun)
        os.environ.update(server.environment())
        try:
            yield server.api_url
        finally:
            drain()


def configured_api_url(env: Mapping[str, str]) -> str | None:
    """PREFECT_API_URL from the environment or the user's active Prefect profile, else None."""
    if env.get("PREFECT_API_URL"):
        return env["PREFECT_API_URL"]
    home = Path(env.get("PREFECT_HOME", "~/.prefect")).expanduser()
    profiles = Path(env.get("PREFECT_PROFILES_PATH", home / "profiles.toml")).expanduser()
    if not profiles.is_file():
        return None
    found = tomllib.loads(text_of(profiles, "Prefect's profiles"))
    active = env.get("PREFECT_PROFILE") or found.get("active", "")
    url = found.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return str(url) if url else None


@contextmanager
def _readable(api_url: str) -> Iterator[None]:
    """Prefect's and the server's ends of a run, as errors of ours."""
    import httpx
    from prefect.exceptions import CancelledRun, ExternalSignal

    try:
        yield
    except (CancelledRun, ExternalSignal) as signal:
        raise InterruptedRunError(
            "interrupted; what was finished is kept, the same command continues"
        ) from signal
    except (httpx.HTTPError, RuntimeError) as error:
        if is_healthy(api_url):
            raise
        raise TrimsError(
            f"Prefect's server at {api_url} does not answer ({error}). Artifacts are not affected: finished"
            " ones are in the store, and the same command continues"
        ) from error


def drain() -> None:
    """Send what Prefect still holds back, so that it does not miss its server at exit."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all(timeout=5)
    APILogWorker.drain_all(timeout=5)
