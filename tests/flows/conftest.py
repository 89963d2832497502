"""One Prefect server for all flow tests of a session, and the fake stages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import flow_stages
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.embedded import drain
from flows.server import Server, serving


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server with its own PREFECT_HOME, for the whole session."""
    with serving(tmp_path_factory.mktemp("prefect"), for_one_run=True) as server:
        yield server
        drain()


@pytest.fixture
def prefect_api(prefect_server: Server) -> Iterator[str]:
    """Flows called in this process report to the session's server."""
    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}):
        yield prefect_server.api_url


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small pipeline's config file; the fake stages stand in for the real ones."""
    flow_stages.install(monkeypatch)
    return flow_stages.write_config(tmp_path)
