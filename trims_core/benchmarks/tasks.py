"""The tasks of a run: digests of their rows for keys, and their problems."""

from __future__ import annotations

from collections.abc import Mapping

from trims_core.benchmarks.benchmark import Problem
from trims_core.benchmarks.registry import get_benchmark
from trims_core.config import TaskConfig
from trims_core.fingerprint import Digests


def task_digests(tasks: Mapping[str, TaskConfig], digests: Digests) -> dict[str, str]:
    """`benchmark.<task>` → digest of the task's rows, all of them.

    Raises:
        ConfigError: an unknown benchmark, or rows that cannot be reached.
    """
    found = {}
    for name, task in tasks.items():
        source = get_benchmark(task.benchmark).source(task)
        found[f"benchmark.{name}"] = digests.dataset(
            source.path, source.hub, source.hub_config, source.split, source.revision
        )
    return found


def load_tasks(tasks: Mapping[str, TaskConfig]) -> dict[str, list[Problem]]:
    """Task → its problems. Raises: InputError, ConfigError: as `Benchmark.load`."""
    return {name: get_benchmark(task.benchmark).load(task) for name, task in tasks.items()}
