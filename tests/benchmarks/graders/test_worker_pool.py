"""Processes under limits: whatever a request does to its process, the others keep their answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trims_core.benchmarks.graders.worker_pool import Limits, Reply, WorkerPool
from trims_core.errors import ConfigError

WORKER = """
import json, os, signal, sys, time
from multiprocessing.connection import Connection

line, cpu_s = Connection(int(sys.argv[1])), float(sys.argv[3])
line.send_bytes(b"{}")
while line.poll(float(sys.argv[4])):
    what = json.loads(line.recv_bytes())
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    if what == "hang":
        time.sleep(3600)
    if what == "spin":
        while True:
            pass
    if what == "crash":
        os._exit(3)
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    line.send_bytes(json.dumps({"said": what, "pid": os.getpid()}).encode())
    signal.setitimer(signal.ITIMER_PROF, 0)
    if what == "last":
        sys.exit()
"""
REQUESTS = ["a", "hang", "b", "killed", "last", "c", "spin", "crash", "d"]


@pytest.fixture
def pool_of(tmp_path: Path) -> Iterator[Callable[..., WorkerPool]]:
    """Pools of a process that does what it is asked."""
    script, pools = tmp_path / "worker.py", []
    script.write_text(WORKER)

    def start(size: int, cpu_s: float = 0.3, wall_s: float = 5.0, idle_s: float = 60.0) -> WorkerPool:
        pools.append(WorkerPool(script, size, Limits(cpu_s, wall_s, 512, idle_s)))
        return pools[-1]

    yield start
    for pool in pools:
        pool.close()


def said(reply: Reply) -> object:
    return ("timeout" if reply.timed_out else "error") if reply.problem else reply.values["said"]


@pytest.mark.parametrize("size", [1, 3])
def test_a_hung_or_killed_process_loses_its_request_and_no_other(
    pool_of: Callable[..., WorkerPool], size: int
) -> None:
    replies = pool_of(size).ask(REQUESTS)
    assert list(map(said, replies)) == ["a", "timeout", "b", "error", "last", "c", "timeout", "error", "d"]
    problems = {what: reply.problem for what, reply in zip(REQUESTS, replies, strict=True)}
    assert problems["hang"] == "waited for more than 5 s"
    assert problems["spin"] == "takes more than 0.3 s of CPU time"
    assert "was killed by SIGKILL" in (problems["killed"] or "")
    assert "ended with exit code 3" in (problems["crash"] or "")


def test_processes_stay_between_calls_and_end_with_the_pool(pool_of: Callable[..., WorkerPool]) -> None:
    pool = pool_of(1)
    first, second = (pool.ask(["a"])[0].values["pid"] for _ in range(2))
    assert first == second
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert pool.ask(["a"])[0].values["pid"] != first


def test_a_process_that_ended_for_want_of_work_is_replaced(pool_of: Callable[..., WorkerPool]) -> None:
    pool = pool_of(1, idle_s=0.0)
    assert [said(reply) for what in "abc" for reply in pool.ask([what])] == ["a", "b", "c"]


def test_nothing_is_started_for_nothing(pool_of: Callable[..., WorkerPool]) -> None:
    assert pool_of(1).ask([]) == []


def test_an_interruption_leaves_no_process_that_answers_late(
    pool_of: Callable[..., WorkerPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(1)
    pid = pool.ask(["a"])[0].values["pid"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("trims_core.benchmarks.graders.worker_pool.wait", _interrupted)
        pool.ask(["late"])
    assert said(pool.ask(["b"])[0]) == "b"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_process_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text("raise SystemExit('no such library')")
    with pytest.raises(ConfigError, match=r"(?s)ended with exit code 1.*no such library"):
        WorkerPool(script, 2).ask(["a"])
