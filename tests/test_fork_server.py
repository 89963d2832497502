"""Forks of the server are children like others: they end with us and leave nothing behind. Real processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_processes import end_with_a_killed_parent, group, lives, until_true

from trims_core.fork_server import VARIABLE, ForkedChild, ForkServer, python_child
from trims_core.processes import Child, stop_all

TESTS = str(Path(__file__).parent)
CODE = ["fakes.python_code"]
"""A module that runs the code it is given."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Imports one module, so that it starts at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONUNBUFFERED", raising=False)
        server = ForkServer(tmp_path_factory.mktemp("server") / "log", ["colorsys"])
    yield server
    server.close()


def guardian(child: Child) -> int:
    return int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[1])


def forked(server: ForkServer, log: Path, code: str, **rest: object) -> Child:
    env = {**os.environ, "PYTHONPATH": TESTS, VARIABLE: server.address}
    env.pop("PYTHONUNBUFFERED", None)
    child = python_child([*CODE, code], log, env, **rest)  # type: ignore[arg-type]
    assert isinstance(child, ForkedChild)
    return child


def test_it_begins_with_what_the_server_imported_and_is_otherwise_what_was_asked_for(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONLY_HERE", "ü")
    ears, mouth = os.pipe()
    code = f"from fakes.python_code import tell; tell({mouth})"
    child = forked(server, tmp_path / "log", code, pass_fds=[mouth])
    os.close(mouth)
    said = json.loads(os.read(ears, 1 << 16))
    assert child.wait(30) == 0
    os.close(ears)
    child.kill()
    assert said.pop("open") == [0, 1, 2, 3, mouth], "nothing of the server's; 3 is the folder that is listed"
    assert said.pop("argv") == [code]
    assert said.pop("pid") == child.pid != os.getpid()
    assert said == {
        "imported": True,
        "cwd": str(tmp_path),
        "env": "ü",
        "leads": [True, True],
        "name": "__main__",
        "stdin": "",
        "default": ["SIGTERM", "SIGCHLD"],
    }
    assert sorted((tmp_path / "log").read_text(encoding="utf-8").split("\n")) == ["", "err", "ü out"]


def test_how_it_ended_and_its_last_words(server: ForkServer, tmp_path: Path) -> None:
    for number, (code, ending) in enumerate(
        [
            ("print('out of luck'); raise SystemExit(3)", "ended with exit code 3"),
            ("import os; os._exit(143)", "ended with exit code 143"),
            ("raise ValueError('out of luck')", "ended with exit code 1"),
            ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL (out of memory?)"),
        ]
    ):
        child = forked(server, tmp_path / str(number), code)
        assert child.wait(30) is not None
        assert child.ending() == ending
        assert number > 2 or number == 1 or "out of luck" in child.last_words()
        child.kill()
        assert child.ending() == ending, "killing what has ended changes nothing"
    still = forked(server, tmp_path / "still", "import time; time.sleep(600)")
    assert still.ending() == "still runs"
    still.kill()
    assert still.returncode == -signal.SIGKILL
    assert not lives(still.pid)


def test_it_is_asked_to_end_and_killed_with_all_it_started_if_it_does_not(
    server: ForkServer, tmp_path: Path
) -> None:
    willing = forked(
        server,
        tmp_path / "willing",
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7))\n"
        "print('ready'); time.sleep(600)",
    )
    deaf = forked(
        server,
        tmp_path / "deaf",
        "import signal, subprocess, time; signal.signal(15, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '600']); print('ready'); time.sleep(600)",
    )
    until_true(lambda: all("ready" in child.log.read_text() for child in (willing, deaf)))
    assert len(group(deaf.pid)) == 2
    stop_all([willing, deaf], 1.0)
    assert (willing.returncode, deaf.returncode) == (7, -signal.SIGKILL)
    until_true(lambda: group(deaf.pid) == [])


def test_what_it_leaves_in_its_group_ends_with_it(server: ForkServer, tmp_path: Path) -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"
    child = forked(server, tmp_path / "log", code)
    assert child.wait(30) == 0
    until_true(lambda: not lives(int((tmp_path / "log").read_text())))
    child.kill()


FAMILY = """
import os, signal, subprocess, time
def save(*_):
    open({told!r}, "w").write("saved")
    os._exit(143)
signal.signal(signal.SIGTERM, save)
subprocess.Popen(["sleep", "600"])
print("ready")
time.sleep(600)
"""
PARENT = """
import os, sys, time
from pathlib import Path
from trims_core.fork_server import VARIABLE, ForkServer, python_child
server = ForkServer(Path(sys.argv[2]).with_name("server-log"), ["colorsys"])
env = {**os.environ, VARIABLE: server.address}
child = python_child(["fakes.python_code", sys.argv[1]], Path(sys.argv[2]), env, grace_s=float(sys.argv[3]))
print(child.pid, server._child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("grace_s", [0.0, 20.0])
def test_it_its_children_and_the_server_end_with_a_parent_that_is_killed(
    tmp_path: Path, project_root: Path, grace_s: float
) -> None:
    told, log = tmp_path / "told", tmp_path / "log"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(project_root), TESTS))}
    command = [sys.executable, "-c", PARENT, FAMILY.format(told=str(told)), str(log), str(grace_s)]
    end_with_a_killed_parent(command, env, log, 2)
    assert told.exists() == (grace_s > 0)


def test_the_servers_death_ends_no_fork_and_the_next_process_is_started_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = ForkServer(tmp_path / "server", ["colorsys"])
    child = forked(server, tmp_path / "log", "import time; time.sleep(600)")
    server.close()
    time.sleep(0.3)
    assert child.returncode is None
    env = {**os.environ, "PYTHONPATH": TESTS, VARIABLE: server.address}
    code = "import sys; print('colorsys' in sys.modules)"
    other = python_child([*CODE, code], tmp_path / "other", env)
    assert not isinstance(other, ForkedChild)
    assert other.wait(30) == 0
    assert (tmp_path / "other").read_text() == "False\n"
    assert "no process from the fork server" in caplog.text
    child.kill()
    assert child.returncode == -signal.SIGKILL
    other.kill()


def test_a_server_that_cannot_import_forks_nothing_and_processes_start_anew(tmp_path: Path) -> None:
    server = ForkServer(tmp_path / "server", ["no_such_module"])
    env = {**os.environ, "PYTHONPATH": TESTS, VARIABLE: server.address}
    child = python_child([*CODE, "print('here')"], tmp_path / "log", env)
    assert (child.wait(30), isinstance(child, ForkedChild)) == (0, False)
    child.kill()
    server.close()


SAVING = """
import os, signal, time
def save(*_):
    with open({told!r}, "a") as file:
        file.write("asked ")
    time.sleep(1.5)
    with open({told!r}, "a") as file:
        file.write("saved")
    os._exit(143)
signal.signal(signal.SIGTERM, save)
print("ready")
time.sleep(600)
"""


def test_one_that_is_saving_is_asked_once_and_not_ended_by_what_ends_everything_around_it(
    server: ForkServer, tmp_path: Path
) -> None:
    """A supervisor sends SIGTERM to all processes, then kills the one that waits for the saving one."""
    told, log = tmp_path / "told", tmp_path / "log"
    child = forked(server, log, SAVING.format(told=str(told)), grace_s=20.0)
    until_true(lambda: "ready" in log.read_text())
    child.terminate()
    until_true(told.exists)
    os.kill(guardian(child), signal.SIGTERM)
    child._line.close()  # type: ignore[attr-defined]  # as the kernel does when its starter is killed
    until_true(lambda: group(child.pid) == [])
    assert told.read_text() == "asked saved"


def test_a_killed_guardian_takes_the_whole_group_with_it(server: ForkServer, tmp_path: Path) -> None:
    code = "import subprocess, time; subprocess.Popen(['sleep', '600']); print('ready'); time.sleep(600)"
    child = forked(server, tmp_path / "log", code)
    until_true(lambda: "ready" in (tmp_path / "log").read_text())
    os.kill(guardian(child), signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL
    until_true(lambda: group(child.pid) == [])
    child.kill()


def test_what_is_imported_has_started_no_thread_that_a_fork_would_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # its threads start again after a fork
    server = ForkServer(tmp_path / "server")
    code = (
        "import sys; torch = sys.modules['torch']; print('peft' in sys.modules, torch.get_num_threads());"
        " print(float((torch.ones(800, 800) @ torch.ones(800, 800)).sum()))"
    )
    for n in ("1", "2"):
        env = {**os.environ, "PYTHONPATH": TESTS, VARIABLE: server.address, "OMP_NUM_THREADS": n}
        child = python_child([*CODE, code], tmp_path / n, env)
        assert child.wait(120) == 0, child.last_words()
        assert isinstance(child, ForkedChild)
        assert (tmp_path / n).read_text() == f"True {n}\n512000000.0\n"
        child.kill()
    threads = [task.read_text().strip() for task in Path(f"/proc/{server._child.pid}/task").glob("*/comm")]
    assert len([name for name in threads if name != "jemalloc_bg_thd"]) == 1, "allocators start theirs again"
    server.close()
