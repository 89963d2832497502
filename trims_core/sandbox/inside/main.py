"""Runs in the sandbox: two processes out of one, the program's and the judge's, and a verdict.

1. The host sends the program and the limits.
2. The process splits: the program's half closes all but two pipes to the judge, gives up what it may not do,
   and runs the program's top level.
3. Only when that is over does the host send the tests, and a nonce to sign with, to the judge.
4. The judge sends nonce and verdict over a pipe that the program's half has never had open since its start.
"""

from __future__ import annotations

import os
import sys
from _signal import SIGXCPU, signal  # type: ignore[import-not-found] # without signal's enum

from .candidate import serve
from .channel import Channel
from .judge import Judge, OutOfTimeError
from .limits import drop_identity, restrict, silence

TYPE_CHECKING = False  # importing typing would take as long as Python's start
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn

_SHARED: Final = ("typing", "math", "collections", "itertools", "functools", "heapq", "re")
"""Imported once for both halves where a program seems to want them, which saves a third of the time."""
_MOST_DESCRIPTORS: Final = 1024
"""Above all that this process has open, whose start left it three."""


def main() -> None:
    """Speak with the host on standard input and output, which are then nobody's."""
    host = Channel(os.dup(0), os.dup(1))
    source, limits = host.receive()
    if limits["identity"] is not None:
        drop_identity(limits["identity"])
    host.send(("up",))
    try:
        _judge(host, source, limits)
    except Exception as error:  # noqa: BLE001 - told to the host, whose trouble it is
        host.send(("trouble", f"{type(error).__name__}: {error}"))
    sys.stdin.buffer.read()  # the host ends what is here


def _judge(host: Channel, source: str, limits: dict[str, Any]) -> None:
    for name in _SHARED:
        if f"import {name}" in source or f"from {name}" in source:
            __import__(name)
    asks, hears = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_the_program(source, limits, asks[0], hears[1])
    silence(1, 2)
    os.close(asks[0])
    os.close(hears[1])
    signal(SIGXCPU, _out_of_time)
    restrict(limits)
    judge = Judge(hears[0], asks[1])
    problem = judge.started()
    host.send(("ran",))
    nonce, prelude, names, tests = host.receive()
    problem = problem or judge.problem_with(prelude, names, tests)
    if judge.out_of_time or (judge.has_ended and _used_up_its_time(pid, limits["cpu_s"])):
        host.send((nonce, "timeout", f"more than {limits['cpu_s']} CPU seconds"))
    else:
        host.send((nonce, "wrong" if problem else "right", problem))


def _out_of_time(_number: int, _frame: object) -> NoReturn:
    raise OutOfTimeError


def _be_the_program(source: str, limits: dict[str, Any], reads: int, writes: int) -> None:
    """Does not return."""
    code = 1
    try:
        silence(0, 1, 2)
        low, high = sorted((reads, writes))
        for first, behind in ((3, low), (low + 1, high), (high + 1, _MOST_DESCRIPTORS)):
            os.closerange(first, behind)
        restrict(limits)
        serve(source, reads, writes)
        code = 0
    finally:
        os._exit(code)


def _used_up_its_time(pid: int, cpu_s: int) -> bool:
    """Whether the program, which has ended, was ended by its limit."""
    _, status, used = os.wait4(pid, 0)
    if not os.WIFSIGNALED(status):
        return False
    return os.WTERMSIG(status) == SIGXCPU or used.ru_utime + used.ru_stime >= cpu_s
