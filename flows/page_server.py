"""A report's page on loopback: a few addresses of one report, to this machine alone."""

from __future__ import annotations

import http
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Protocol

from trims_core.errors import ConfigError

HOST: Final = "127.0.0.1"


class _Reply(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def body(self) -> bytes: ...


Replies = Callable[[str], "_Reply | None"]
"""Of an address without its query what it gives, or None."""


class PageServer(ThreadingHTTPServer):
    """Listens on loopback.

    Args:
        port: 0: a free one.

    Raises:
        ConfigError: nothing can listen there.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, replies: Replies, port: int) -> None:
        self.replies = replies
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"--port {port}: {error.strerror}; expected a free port. Leave the option out to get one"
            ) from None

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of what there is; everything else is refused."""

    server: PageServer
    server_version = "trims"
    sys_version = ""

    def do_GET(self) -> None:
        """The reply."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """The reply's head."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        # a name that another site lets lead here is no name of this server
        if self.headers.get("Host") not in (
            f"{name}:{self.server.server_port}" for name in (HOST, "localhost")
        ):
            self.send_error(http.HTTPStatus.FORBIDDEN)
            return
        found = self.server.replies(self.path.partition("?")[0])
        if found is None:
            self.send_error(http.HTTPStatus.NOT_FOUND)
            return
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Type", found.kind)
        self.send_header("Content-Length", str(len(found.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if with_body:
            self.wfile.write(found.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the console is for what matters."""
