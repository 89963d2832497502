"""The tasks of a run: digests of their rows for keys, and their problems read from exactly those rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from trims_core.benchmarks.benchmark import Problem
from trims_core.benchmarks.registry import get_benchmark
from trims_core.config import TaskConfig
from trims_core.fingerprint import Digests, pinned

_INPUT: Final = "benchmark."


def task_digests(tasks: Mapping[str, TaskConfig], digests: Digests) -> dict[str, str]:
    """`benchmark.<task>` → digest of the task's rows, all of them.

    Raises:
        ConfigError: an unknown benchmark, or rows that cannot be reached.
    """
    found = {}
    for name, task in tasks.items():
        source = get_benchmark(task.benchmark).source(task)
        found[f"{_INPUT}{name}"] = digests.dataset(
            source.path, source.hub, source.hub_config, source.split, source.revision
        )
    return found


def load_tasks(tasks: Mapping[str, TaskConfig], inputs: Mapping[str, str]) -> dict[str, list[Problem]]:
    """Task → its problems.

    Args:
        inputs: holds what `task_digests` gave; a hub data set is read at the commit named there.

    Raises:
        InputError, ConfigError: as `Benchmark.load`.
    """
    found = {}
    for name, task in tasks.items():
        benchmark = get_benchmark(task.benchmark)
        source = benchmark.source(task)
        source = replace(source, revision=pinned(inputs[f"{_INPUT}{name}"], source.revision))
        found[name] = benchmark.load(task, source)
    return found
