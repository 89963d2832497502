"""`trims serve`: Prefect's server, a worker and all deployments, on this machine, in one command."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from flows.console import standard_output
from flows.option_groups import filled_in
from flows.server import STOP_GRACE_S, Server, serving
from trims_core.errors import ConfigError, InterruptedRunError, TrimsError
from trims_core.processes import Child

WORK_POOL: Final = "trims"
_PREFECT: Final = (sys.executable, "-m", "prefect", "--no-prompt")
_POOL: Final = ("work-pool", "create", WORK_POOL, "--type", "process", "--overwrite")
_WORKER: Final = ("worker", "start", "--pool", WORK_POOL, "--type", "process", "--install-policy", "never")
_DEPLOY_TIMEOUT_S: Final = 180.0
_WORKER_GRACE_S: Final = 70.0
"""A training in flight may take a minute to save."""
_SHORT_LIFE_S: Final = 20.0
"""A worker that ends sooner is not started again: something is wrong with it."""
_PATIENT: Final = {
    # A worker ends after twelve calls to the server that failed: with these retries, each takes four minutes.
    # It stops looking for cancellations after three that failed, which are not retried; a longer pause than
    # five minutes would miss them: the server then calls such a run cancelled by itself.
    "PREFECT_CLIENT_MAX_RETRIES": "7",
    "PREFECT_RUNNER_POLL_FREQUENCY": "60",
    "PREFECT_WORKER_QUERY_SECONDS": "3",
}
_POLL_S: Final = 0.2
_SAY_EVERY_S: Final = 5.0


def serve(
    port: Annotated[int, typer.Option(help="Port on loopback; 0: a free one.")] = 4200,
    home: Annotated[
        Path, typer.Option(callback=filled_in, help="Folder of the server's data base and logs.")
    ] = Path(".prefect"),
    runs: Annotated[int, typer.Option(min=1, help="Runs at a time; further ones wait.")] = 1,
) -> None:
    """Start server, worker and deployments; what dies is started again, Ctrl-C stops everything."""
    if not Path("prefect.yaml").is_file():
        raise ConfigError(f"{Path.cwd()}: no prefect.yaml here; run `trims serve` in the project's folder")
    say = _Speaker()
    waiting = say.waiting("server starts")
    with (
        suppress(KeyboardInterrupt, InterruptedRunError),
        serving(home / "serve", port=port, for_one_run=False, waiting=waiting) as server,
    ):
        env = {**os.environ, **server.environment(), **_settings()}
        for command in (_POOL, ("deploy", "--all")):
            _run(server, env, command, say)
        worker = _Worker(server, env, runs)
        try:
            say(f"ready: {server.ui_url}   (Ctrl-C stops server and worker)")
            say(f"elsewhere:  export PREFECT_API_URL={server.api_url}")
            say("            prefect deployment run trims/full-pipeline")
            _keep_alive(server, worker, say)
        finally:
            say("stopping")
            worker.stop()
    say("stopped")


def _settings() -> Mapping[str, str]:
    """Flows import the project's packages from where we were started, installed or not."""
    path = os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH", ""))))
    return {"PYTHONPATH": path, **{name: os.environ.get(name, value) for name, value in _PATIENT.items()}}


class _Worker:
    """The worker, and how it is started again."""

    def __init__(self, server: Server, env: Mapping[str, str], runs: int) -> None:
        self._command = [*_PREFECT, *_WORKER, "--limit", str(runs)]
        self._log = server.home / "worker.log"
        self._env = env
        self.start()

    def start(self) -> None:
        """Its runs end with it, saving what they can: a run has the worker as its parent."""
        self._began = time.monotonic()
        self._child = Child(self._command, self._log, self._env, grace_s=_WORKER_GRACE_S)

    def ended(self) -> str | None:
        """How it ended; None while it runs. Raises: TrimsError if it hardly lived."""
        if self._child.returncode is None:
            return None
        if time.monotonic() - self._began < _SHORT_LIFE_S:
            raise TrimsError(f"the worker {self._child.ending()}. {self._child.last_words()}")
        return self._child.ending()

    def stop(self) -> None:
        """Its runs are asked to save and end."""
        self._child.stop(_WORKER_GRACE_S)


def _keep_alive(server: Server, worker: _Worker, say: _Speaker) -> NoReturn:
    while True:
        if how := server.ended():
            say(f"Prefect's server {how}; it is started again. Runs go on meanwhile")
            server.start(say.waiting("server starts"))
            say("the server is back")
        if how := worker.ended():
            say(f"the worker {how}; it is started again. Its run ended with it: run its deployment again")
            worker.stop()
            worker.start()
        time.sleep(_POLL_S)


def _run(server: Server, env: Mapping[str, str], command: tuple[str, ...], say: _Speaker) -> None:
    """Run one command of Prefect's. Raises: TrimsError with its last words."""
    label = " ".join(command[:2])
    child = Child([*_PREFECT, *command], server.home / f"{command[0]}.log", env)
    began, waiting = time.monotonic(), say.waiting(label)
    try:
        while child.wait(_POLL_S) is None:
            waiting(time.monotonic() - began)
            if time.monotonic() - began > _DEPLOY_TIMEOUT_S:
                raise TrimsError(f"prefect {label} takes over {_DEPLOY_TIMEOUT_S:.0f} s; see {child.log}")
        if child.returncode != 0:
            raise TrimsError(f"prefect {label} {child.ending()}. {child.last_words()}")
    finally:
        child.stop(STOP_GRACE_S)


class _Speaker:
    """Lines on the console, and one every few seconds while something is awaited."""

    def __init__(self) -> None:
        self._console = standard_output()
        self._spoken_at = time.monotonic()

    def __call__(self, text: str) -> None:
        self._spoken_at = time.monotonic()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def waiting(self, label: str) -> Callable[[float], None]:
        """A function of the seconds waited so far."""

        def tell(seconds: float) -> None:
            if time.monotonic() - self._spoken_at >= _SAY_EVERY_S:
                self(f"{label} … {seconds:.0f} s")

        return tell
