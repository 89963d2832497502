"""What a process inside gives up for good before it runs anything of a program or a test."""

from __future__ import annotations

import os
import resource

from .syscalls import filter_calls

TYPE_CHECKING = False  # importing typing would take as long as Python's start
if TYPE_CHECKING:
    from typing import Any


def drop_identity(number: int) -> None:
    """Be this user and group, which own nothing, where the sandbox was started as root."""
    os.setgroups([])
    os.setresgid(number, number, number)
    os.setresuid(number, number, number)


def restrict(limits: dict[str, Any]) -> None:
    """Hold the limits, for root as well, and refuse the calls that lead out.

    Raises:
        NoFilterError: this machine cannot refuse calls.
    """
    cpu_s, megabyte = limits["cpu_s"], 1 << 20
    for kind, soft, hard in (
        (resource.RLIMIT_AS, limits["memory_mib"] * megabyte, None),
        (resource.RLIMIT_FSIZE, limits["file_mib"] * megabyte, None),
        (resource.RLIMIT_CPU, cpu_s, cpu_s + 1),
        (resource.RLIMIT_NPROC, limits["processes"], None),
        (resource.RLIMIT_NOFILE, limits["open_files"], None),
        (resource.RLIMIT_CORE, 0, None),
    ):
        _, allowed = resource.getrlimit(kind)
        ceiling = soft if hard is None else hard
        ceiling = ceiling if allowed == resource.RLIM_INFINITY else min(ceiling, allowed)
        resource.setrlimit(kind, (min(soft, ceiling), ceiling))
    if limits["filter"]:
        filter_calls()


def silence(*descriptors: int) -> None:
    """What is read there is empty, what is written there is dropped."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nothing, descriptor)
    os.close(nothing)
