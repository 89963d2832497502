"""Children end with us; servers answer, stay apart, and tell why they do not start. Real processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import server
from flows.embedded import configured_api_url
from flows.server import check_port_free, free_port, serving
from trims_core.errors import ConfigError, TrimsError


def until_true(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not within time"
        time.sleep(0.05)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_taken_port_is_refused_with_a_remedy() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: .*choose another"):
            check_port_free(port)
    check_port_free(free_port())


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
