"""Prefect servers of our own: on loopback, with their own PREFECT_HOME, gone when we are.

`trims run` starts one for the run where none is configured, `trims serve` one to stay. Prefect's own embedded
server is not used: it prints tracebacks when it ends and dies with Ctrl-C before the run's last state is
stored. This module does not import prefect.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from trims_core.errors import TrimsError
from trims_core.ports import HOST, PROXIES, reserved_port
from trims_core.processes import Child

STARTUP_TIMEOUT_S: Final = 120.0
STOP_GRACE_S: Final = 8.0
_POLL_S: Final = 0.1
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Loopback is never behind a proxy."""
_RUN_ONLY: Final = {
    # A server that lives for one run has nothing to schedule, mark late or cancel.
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
}


class Server:
    """A server on loopback, in a process of its own."""

    def __init__(self, home: Path, port: int, *, for_one_run: bool) -> None:
        self.home = home
        self.port = port
        self._for_one_run = for_one_run
        self._child: Child | None = None

    def start(self, waiting: Callable[[float], None] = lambda _s: None) -> None:
        """Start it, also where it has ended; returns once it answers.

        Args:
            waiting: called with the seconds waited so far.

        Raises:
            TrimsError: it ended, or did not answer within STARTUP_TIMEOUT_S; names the log.
        """
        self.stop()
        env = {**os.environ, **_environment(self.home), **_server_only(self, self._for_one_run)}
        env.pop("PREFECT_API_URL", None)
        command = ["-m", "prefect", "server", "start", "--host", HOST, "--port", str(self.port)]
        words, log = [sys.executable, *command, "--analytics-off"], self.home / "server.log"
        # from its home: the address of its data base could not hold a ? or # of the folder's name
        self._child = Child(words, log, env, self.home, grace_s=STOP_GRACE_S)
        _wait_until_healthy(self, self._child, waiting)

    def ended(self) -> str | None:
        """How its process ended; None while it runs."""
        if self._child is None or self._child.returncode is None:
            return None
        return self._child.ending()

    def stop(self) -> None:
        """Stop it if it runs."""
        if self._child is not None:
            self._child.stop(STOP_GRACE_S)
            self._child = None

    @property
    def api_url(self) -> str:
        """What PREFECT_API_URL is to be."""
        return f"http://{HOST}:{self.port}/api"

    @property
    def ui_url(self) -> str:
        """Where a browser finds it."""
        return f"http://{HOST}:{self.port}"

    def environment(self) -> dict[str, str]:
        """The variables with which a process talks to this server and to no other."""
        return {"PREFECT_API_URL": self.api_url, **_environment(self.home)}


@contextmanager
def serving(
    homes: Path, *, port: int = 0, for_one_run: bool, waiting: Callable[[float], None] = lambda _s: None
) -> Iterator[Server]:
    """A server that answers, stopped at the end.

    Args:
        homes: folder of PREFECT_HOMEs; the first that no living process uses is taken.
        port: 0 for a free one.
        for_one_run: without UI, scheduler and triggers.
        waiting: called with the seconds waited so far while it starts.

    Raises:
        ConfigError: somebody listens on the port.
        TrimsError: like `Server.start`.
    """
    with _free_home(homes) as home, reserved_port(port) as kept:
        server = Server(home, kept, for_one_run=for_one_run)
        try:
            server.start(waiting)
            yield server
        finally:
            server.stop()


@contextmanager
def _free_home(homes: Path) -> Iterator[Path]:
    homes.mkdir(parents=True, exist_ok=True)
    n = 0
    while True:
        home = homes.absolute() / f"home-{n}"
        lock = FileLock(f"{home}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            n += 1
            continue
        try:
            home.mkdir(exist_ok=True)
            yield home
        finally:
            lock.release()
        return


def _environment(home: Path) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **direct_loopback(os.environ),
    }


def direct_loopback(env: Mapping[str, str]) -> dict[str, str]:
    """The variables with which HTTP_PROXY, HTTPS_PROXY and ALL_PROXY do not reach loopback.

    A SOCKS proxy that Prefect's HTTP library cannot use would end it even so: that one is left out.
    """
    named = env.get("no_proxy") or env.get("NO_PROXY") or ""
    hosts = dict.fromkeys([*filter(None, (host.strip() for host in named.split(","))), HOST, "localhost"])
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(hosts))
    if find_spec("socksio") is None:
        proxies = {name for name in env if name.lower() in PROXIES}
        direct |= {name: "" for name in proxies if env[name].startswith("socks")}
    return direct


def _server_only(server: Server, for_one_run: bool) -> Mapping[str, str]:
    url = {"PREFECT_UI_API_URL": server.api_url, "PREFECT_SERVER_UI_API_URL": server.api_url}
    database = "sqlite+aiosqlite:///prefect.db"
    chosen = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database, "PREFECT_SERVER_API_HOST": HOST}
    return {
        **url,
        **chosen,
        "PREFECT_SERVER_API_PORT": str(server.port),
        **(_RUN_ONLY if for_one_run else {}),
    }


def _wait_until_healthy(server: Server, child: Child, waiting: Callable[[float], None]) -> None:
    start = time.monotonic()
    while not is_healthy(server.api_url):
        waited_s = time.monotonic() - start
        if child.returncode is not None:
            raise TrimsError(f"Prefect's server {child.ending()}. {child.last_words()}")
        if waited_s > STARTUP_TIMEOUT_S:
            raise TrimsError(
                f"Prefect's server did not answer within {STARTUP_TIMEOUT_S:.0f} s; see {child.log}"
            )
        waiting(waited_s)
        time.sleep(_POLL_S)


def is_healthy(api_url: str) -> bool:
    """Whether a Prefect server answers at this URL."""
    try:
        with _DIRECT.open(f"{api_url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
