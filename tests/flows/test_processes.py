"""Children end with us; servers answer, stay apart, and tell why they do not start. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import server
from flows.embedded import configured_api_url
from flows.processes import Child
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


def test_a_child_dies_when_its_parent_is_killed(tmp_path: Path, project_root: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from flows.processes import Child\n"
        f"child = Child(['sleep', '600'], Path({str(tmp_path / 'log')!r}), os.environ)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(project_root)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=env
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert lives(pid)
        parent.kill()
    until_true(lambda: not lives(pid))


def test_stop_ends_a_child_that_ignores_sigterm_and_what_it_started(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 600 & echo $! ; wait; sleep 600"
    child = Child(["sh", "-c", script], tmp_path / "log", os.environ)
    until_true(lambda: (tmp_path / "log").read_text().strip().isdigit())
    grandchild = int((tmp_path / "log").read_text())
    child.stop(grace_s=0.2)
    assert child.returncode == -signal.SIGKILL
    until_true(lambda: not lives(grandchild))


def test_a_childs_failure_tells_its_last_words(tmp_path: Path) -> None:
    child = Child(["sh", "-c", "echo out of luck; exit 3"], tmp_path / "log", os.environ)
    until_true(lambda: child.returncode is not None)
    assert "status 3" in str(child.failure("it"))
    assert "out of luck" in str(child.failure("it"))


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
        pytest.raises(TrimsError, match="Prefect's server ended with status 1"),
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
