"""The tasks of a run: digests of their rows for keys, and their problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trims_core.benchmarks.benchmark import Problem
from trims_core.benchmarks.graders import Grader, get_grader
from trims_core.benchmarks.registry import get_benchmark
from trims_core.fingerprint import Digests
from trims_core.sweep_sections import TaskConfig


def task_digests(tasks: Mapping[str, TaskConfig], digests: Digests) -> dict[str, str]:
    """`benchmark.<task>` → digest of the task's rows, all of them.

    Raises:
        ConfigError: an unknown benchmark, or rows that cannot be reached.
    """
    found = {}
    for name, task in tasks.items():
        source = get_benchmark(task.benchmark_name).source(task)
        found[f"benchmark.{name}"] = digests.dataset(
            source.path, source.hub, source.hub_config, source.split, source.revision
        )
    return found


def graders_of(task: TaskConfig) -> tuple[Grader, ...]:
    """Who judges a task's answers, the main one first: its own, its profile's, or its benchmark's.

    Raises: ConfigError: an unknown benchmark or grader.
    """
    profile = task.protocol
    of_profile = () if profile is None else profile.graders
    names = task.graders or of_profile or get_benchmark(task.benchmark_name).graders
    return tuple(get_grader(name) for name in dict.fromkeys(names))


def load_tasks(tasks: Mapping[str, TaskConfig]) -> dict[str, list[Problem]]:
    """Task → its problems, asked in the words of its profile.

    Raises: InputError, ConfigError: as `Benchmark.load`; a placeholder that a problem does not fill.
    """
    return {name: _asked(task, get_benchmark(task.benchmark_name).load(task)) for name, task in tasks.items()}


def _asked(task: TaskConfig, problems: list[Problem]) -> list[Problem]:
    profile = task.protocol
    if profile is None:
        return problems
    prompt = profile.prompt
    return [
        replace(
            problem,
            messages=prompt.messages(problem.facts, f"profile {task.profile}, problem {problem.id!r}"),
            answer_prefix=prompt.answer_prefix,
            chat=prompt.chat,
        )
        for problem in problems
    ]
