"""A reserved port: nobody else's, and free for a child that reuses addresses."""

from __future__ import annotations

import asyncio
import socket

import pytest

from trims_core.errors import ConfigError
from trims_core.ports import HOST, reserved_port


def test_nobody_else_gets_a_reserved_port_and_a_server_may_listen_on_it() -> None:
    with reserved_port() as port:
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind((HOST, port))
        asyncio.run(_listen(port))
        asyncio.run(_listen(port))  # again, as after a crash
    with socket.socket() as next_one:
        next_one.bind((HOST, port))


async def _listen(port: int) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), HOST, port)
    server.close()


def test_a_port_that_somebody_listens_on_is_refused_with_a_remedy() -> None:
    with (
        socket.create_server((HOST, 0)) as taken,
        pytest.raises(ConfigError, match=r"port \d+: .*in use; choose another"),
        reserved_port(taken.getsockname()[1]),
    ):
        pytest.fail("it was given away")
