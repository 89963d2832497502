"""`trims serve`: Prefect's server, a worker and all deployments, on this machine, in one command."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from flows.console import standard_output
from flows.server import STOP_GRACE_S, Server, check_port_free, serving
from trims_core.errors import ConfigError, InterruptedRunError, TrimsError
from trims_core.processes import Child

WORK_POOL: Final = "trims"
_DEPLOY_TIMEOUT_S: Final = 180.0
_WORKER_GRACE_S: Final = 70.0
"""A training in flight may take a minute to save."""
_POLL_S: Final = 0.2
_SAY_EVERY_S: Final = 5.0


def serve(
    port: Annotated[int, typer.Option(help="Port on loopback; 0: a free one.")] = 4200,
    home: Annotated[Path, typer.Option(help="Folder of the server's data base and logs.")] = Path(".prefect"),
) -> None:
    """Start server, worker and deployments; Ctrl-C stops everything that was started."""
    project = Path.cwd()
    if not (project / "prefect.yaml").is_file():
        raise ConfigError(f"{project}: no prefect.yaml here; run `trims serve` in the project's folder")
    if port:
        check_port_free(port)
    say = _Speaker()
    try:
        with _everything(home, port, project, say) as (server, worker):
            say(f"ready: {server.ui_url}   (Ctrl-C stops server and worker)")
            say(f"elsewhere:  export PREFECT_API_URL={server.api_url}")
            say("            prefect deployment run trims/full-pipeline")
            _wait(worker)
    except (KeyboardInterrupt, InterruptedRunError):
        say("stopped")


@contextmanager
def _everything(home: Path, port: int, project: Path, say: _Speaker) -> Iterator[tuple[Server, Child]]:
    with serving(
        home / "serve", port=port, for_one_run=False, waiting=say.waiting("server starts")
    ) as server:
        env = {**os.environ, **server.environment(), **_worker_settings(project)}
        _prefect(
            server,
            env,
            project,
            "work-pool",
            "create",
            WORK_POOL,
            "--type",
            "process",
            "--overwrite",
            say=say,
        )
        _prefect(server, env, project, "deploy", "--all", say=say)
        worker = _start_worker(server, env, project)
        try:
            yield server, worker
        finally:
            say("stopping")
            worker.stop(_WORKER_GRACE_S)


def _worker_settings(project: Path) -> Mapping[str, str]:
    """Flows import the project's packages from where we were started, installed or not."""
    path = os.pathsep.join(filter(None, (str(project), os.environ.get("PYTHONPATH", ""))))
    return {"PYTHONPATH": path, "PREFECT_WORKER_QUERY_SECONDS": "3", "PREFECT_CLI_PROMPT": "false"}


def _start_worker(server: Server, env: Mapping[str, str], project: Path) -> Child:
    command = ["worker", "start", "--pool", WORK_POOL, "--type", "process", "--install-policy", "never"]
    words, log = [sys.executable, "-m", "prefect", *command], server.home / "worker.log"
    return Child(words, log, env, project, grace_s=_WORKER_GRACE_S)


def _prefect(server: Server, env: Mapping[str, str], project: Path, *command: str, say: _Speaker) -> None:
    """Run one command of Prefect's. Raises: TrimsError with its last words."""
    label = " ".join(command[:2])
    log = server.home / f"{command[0]}.log"
    child = Child([sys.executable, "-m", "prefect", "--no-prompt", *command], log, env, cwd=project)
    begun = time.monotonic()
    waiting = say.waiting(label)
    try:
        while child.returncode is None:
            waiting(time.monotonic() - begun)
            if time.monotonic() - begun > _DEPLOY_TIMEOUT_S:
                raise TrimsError(f"prefect {label} did not end within {_DEPLOY_TIMEOUT_S:.0f} s; see {log}")
            time.sleep(_POLL_S)
        if child.returncode != 0:
            raise TrimsError(f"prefect {label} {child.ending()}. {child.last_words()}")
    finally:
        child.stop(STOP_GRACE_S)


def _wait(worker: Child) -> None:
    while worker.returncode is None:
        time.sleep(_POLL_S)
    raise TrimsError(f"the worker {worker.ending()}. {worker.last_words()}")


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
