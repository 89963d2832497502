"""Children end with us; servers answer, stay apart, and tell why they do not start. Real processes."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import httpx
import pytest

from flows import server
from flows.embedded import configured_api_url
from flows.server import serving
from trims_core.errors import ConfigError, TrimsError


def test_a_taken_port_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=f"port {port}: .*choose another"),
            serving(tmp_path, port=port, for_one_run=True),
        ):
            pytest.fail("it started")


def test_loopback_is_behind_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet")
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:9" if name == "ALL_PROXY" else "http://127.0.0.1:9")
    with pytest.raises((httpx.HTTPError, ImportError)), httpx.Client() as client:
        client.get("http://127.0.0.1:9/")
    for name, value in server.direct_loopback(os.environ).items():
        monkeypatch.setenv(name, value)
    assert os.environ["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    with socket.create_server((server.HOST, 0)) as listening:
        threading.Thread(target=_answer, args=[listening], daemon=True).start()
        port = listening.getsockname()[1]
        assert httpx.get(f"http://127.0.0.1:{port}/").text == "direct"


def _answer(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ndirect")


def test_a_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.sys, "executable", "/bin/false")
    with (
        pytest.raises(TrimsError, match="Prefect's server ended with exit code 1"),
        serving(tmp_path, for_one_run=True),
    ):
        pytest.fail("it started")


def test_two_runs_have_homes_of_their_own(tmp_path: Path) -> None:
    with server._free_home(tmp_path) as first, server._free_home(tmp_path) as second:
        assert first != second
    with server._free_home(tmp_path) as again:
        assert again == first


def test_a_configured_server_is_found_in_the_environment_or_the_profile(tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text('active = "team"\n[profiles.team]\nPREFECT_API_URL = "http://team/api"\n')
    env = {"PREFECT_HOME": str(tmp_path)}
    assert configured_api_url(env) == "http://team/api"
    assert configured_api_url({**env, "PREFECT_PROFILE": "other"}) is None
    assert configured_api_url({**env, "PREFECT_API_URL": "http://mine/api"}) == "http://mine/api"
    assert configured_api_url({"PREFECT_HOME": str(tmp_path / "none")}) is None
