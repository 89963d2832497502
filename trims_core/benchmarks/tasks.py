"""The tasks of a run: who grades them, digests of their rows for keys, and their problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from trims_core.benchmarks.benchmark import Problem
from trims_core.benchmarks.graders import Grader, get_grader
from trims_core.benchmarks.registry import BENCHMARKS, get_benchmark
from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests, sha256_json
from trims_core.sweep_sections import TaskConfig


def problems_with(task: TaskConfig) -> list[str]:
    """What a task says that its benchmark has no use for, or leaves out that it needs; unknown benchmarks are
    told of where problems are loaded."""
    benchmark, found = BENCHMARKS.get(task.benchmark_name), []
    for name in task.graders or ():
        try:
            get_grader(name)
        except ConfigError as error:
            found.append(str(error))
    if task.graders is not None and len(set(task.graders)) < len(task.graders):
        found.append(f"graders: {', '.join(task.graders)}; expected each one once")
    if benchmark is None:
        return found
    if not graders_named(task):
        found.append(f"benchmark {benchmark.name} has no grader of its own; name one with graders")
    columns = [name for name in ("question", "answer") if getattr(task, name) is not None]
    if columns and not benchmark.names_columns:
        found.append(
            f"{' and '.join(columns)}: read with benchmark: qa alone; {benchmark.name} has columns of its own"
        )
    return found


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


def graders_of(task: TaskConfig, *, unsafe: bool = False) -> tuple[Grader, ...]:
    """Who judges a task's answers, the main one first.

    Args:
        unsafe: programs run without a sandbox.

    Raises:
        ConfigError: an unknown benchmark or grader.
    """
    graders = (get_grader(name) for name in graders_named(task))
    return tuple(grader.without_sandbox() if unsafe else grader for grader in graders)


def graders_named(task: TaskConfig) -> tuple[str, ...]:
    """The task's own, its profile's, or its benchmark's. Raises: ConfigError: an unknown benchmark."""
    profile = task.protocol
    of_profile = () if profile is None else profile.graders
    return tuple(dict.fromkeys(task.graders or of_profile or get_benchmark(task.benchmark_name).graders))


def load_tasks(tasks: Mapping[str, TaskConfig]) -> dict[str, list[Problem]]:
    """Task → its problems, asked in the words of its profile.

    Raises: InputError, ConfigError: as `Benchmark.load`; a placeholder that a problem does not fill.
    """
    return {name: _asked(task, get_benchmark(task.benchmark_name).load(task)) for name, task in tasks.items()}


def problems_digest(problems: Sequence[Problem]) -> str:
    """Of what is asked; the right answers are not."""
    plain = [[problem.id, problem.messages] for problem in problems]
    forms = [[problem.chat, problem.answer_prefix] for problem in problems]
    return sha256_json(plain if all(form == [True, ""] for form in forms) else [plain, forms])


def _asked(task: TaskConfig, problems: list[Problem]) -> list[Problem]:
    profile = task.protocol
    if profile is None:
        return problems
    prompt = profile.prompt
    asked = []
    for problem in problems:
        facts, place = problem.facts, f"profile {task.profile}, problem {problem.id!r}"
        messages, prefix = prompt.messages(facts, place), prompt.prefix(facts, place)
        asked.append(replace(problem, messages=messages, answer_prefix=prefix, chat=prompt.chat))
    return asked
