"""Ports on loopback for children of ours."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from trims_core.errors import ConfigError

HOST: Final = "127.0.0.1"
PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
"""Variables that name a proxy, in lower or upper case."""


@contextmanager
def reserved_port(port: int = 0) -> Iterator[int]:
    """A port that the system gives to nobody else while the block lasts, 0 for any one.

    A child may listen on it all the same, and another one after it: it is bound here with SO_REUSEADDR and
    never listened on, and whoever sets SO_REUSEADDR too (uvicorn, PyTorch's store) may then bind it (Linux).

    Raises:
        ConfigError: somebody listens on it already.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"port {port}: {error.strerror}; choose another one, or 0 for a free one"
            ) from None
        yield int(holder.getsockname()[1])
