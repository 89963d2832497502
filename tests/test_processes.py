"""Children end with us and leave nothing behind. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trims_core import processes
from trims_core.processes import Child, stop_all


def until_true(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not within time"
        time.sleep(0.05)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def group(pid: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z" and int(fields[2]) == pid:
            found.append(int(path.parent.name))
    return found


FAMILY = """
import os, signal, subprocess, sys, time
if {saves}:
    def save(*_):
        open({told!r}, "w").write("saved")
        os._exit(143)
    signal.signal(signal.SIGTERM, save)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ready", flush=True)
time.sleep(600)
"""
PARENT = """
import os, sys, time
from pathlib import Path
from trims_core.processes import Child
child = Child([sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]), os.environ, grace_s=float(sys.argv[3]))
print(child.pid, flush=True)
time.sleep(600)
"""


def end_with_a_killed_parent(command: list[str], env: dict[str, str], log: Path, n_processes: int) -> None:
    """The groups whose pids a parent tells end when it is killed; the first one had so many processes."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        until_true(lambda: log.exists() and "ready" in log.read_text())
        assert len(group(pids[0])) == n_processes
        parent.kill()
    until_true(lambda: all(group(pid) == [] for pid in pids))


@pytest.mark.parametrize("grace_s", [0.0, 20.0])
def test_a_child_and_its_children_end_with_a_parent_that_is_killed(
    tmp_path: Path, project_root: Path, grace_s: float
) -> None:
    told, log = tmp_path / "told", tmp_path / "log"
    family = FAMILY.format(saves=grace_s > 0, told=str(told))
    env = {**os.environ, "PYTHONPATH": str(project_root)}
    command = [sys.executable, "-c", PARENT, family, str(log), str(grace_s)]
    end_with_a_killed_parent(command, env, log, 3)  # the child, its child and the watcher
    assert told.exists() == (grace_s > 0)


def test_stop_ends_a_child_that_ignores_sigterm_and_what_it_started(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 600 & echo $! ; wait; sleep 600"
    child = Child(["sh", "-c", script], tmp_path / "log", os.environ)
    until_true(lambda: (tmp_path / "log").read_text().strip().isdigit())
    grandchild = int((tmp_path / "log").read_text())
    child.stop(grace_s=0.2)
    assert child.returncode == -signal.SIGKILL
    until_true(lambda: not lives(grandchild))


def test_what_a_child_leaves_in_its_group_ends_with_it(tmp_path: Path) -> None:
    child = Child(["sh", "-c", "sleep 600 & echo $!"], tmp_path / "log", os.environ)
    assert child.wait(30) == 0
    until_true(lambda: not lives(int((tmp_path / "log").read_text())))
    child.kill()
    assert group(child.pid) == []


LATE_WATCHER = """
import os, runpy, sys, time
fork = os.fork
os.fork = lambda: fork() or time.sleep(1) or 0
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_what_a_child_leaves_ends_also_if_the_child_is_done_before_its_watcher_runs(tmp_path: Path) -> None:
    lifeline, ours = os.pipe()
    tether = [str(Path(processes.__file__).with_name("tether.py")), str(os.getpid()), "9", str(lifeline), "0"]
    command = [sys.executable, "-c", LATE_WATCHER, *tether, "sh", "-c", "sleep 600 > /dev/null & echo $!"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, start_new_session=True, pass_fds=[lifeline]
    ) as child:
        assert child.stdout is not None
        left = int(child.stdout.readline())
        assert child.wait(30) == 0
        assert lives(left)
        until_true(lambda: not lives(left))
    os.close(lifeline)
    os.close(ours)


def test_stopping_many_waits_for_all_at_once(tmp_path: Path) -> None:
    slow = "trap 'sleep 1; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    children = [Child(["sh", "-c", slow], tmp_path / str(n), os.environ) for n in range(3)]
    until_true(lambda: all("ready" in child.log.read_text() for child in children))
    started = time.monotonic()
    stop_all(children, 20.0)
    assert [child.returncode for child in children] == [7, 7, 7]
    assert time.monotonic() - started < 2.9


def test_a_childs_ending_and_its_last_words(tmp_path: Path) -> None:
    child = Child(["sh", "-c", "seq 100; echo out of luck; exit 3"], tmp_path / "log", os.environ)
    assert child.wait(30) == 3
    assert child.ending() == "ended with exit code 3"
    words = child.last_words().splitlines()
    assert (words[0], words[-1], len(words)) == (f"End of {tmp_path / 'log'}:", "out of luck", 21)
    child.kill()
    killed = Child(["sleep", "600"], tmp_path / "other", os.environ)
    assert killed.ending() == "still runs"
    killed.kill()
    assert killed.ending() == "was killed by SIGKILL (out of memory?)"


def test_a_command_that_is_not_there_is_said_in_the_log(tmp_path: Path) -> None:
    child = Child([str(tmp_path / "none")], tmp_path / "log", os.environ)
    assert child.wait(30) == 1
    assert "FileNotFoundError" in child.last_words()
    child.kill()
