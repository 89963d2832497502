"""Benchmarks by name."""

from __future__ import annotations

from typing import Final

from trims_core.benchmarks.benchmark import Benchmark
from trims_core.benchmarks.demo import Demo
from trims_core.benchmarks.graders import Grader, get_grader
from trims_core.benchmarks.gsm8k import Gsm8k
from trims_core.benchmarks.humaneval import HumanEvalTasks
from trims_core.benchmarks.mbpp import MbppTasks
from trims_core.errors import ConfigError, nearest_name

_ALL: Final[tuple[Benchmark, ...]] = (Demo(), Gsm8k(), HumanEvalTasks(), MbppTasks())
BENCHMARKS: Final[dict[str, Benchmark]] = {benchmark.name: benchmark for benchmark in _ALL}


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of this name. Raises: ConfigError naming the known ones."""
    if name not in BENCHMARKS:
        raise ConfigError(f"benchmark {name!r} is not known; {nearest_name(name, BENCHMARKS)}")
    return BENCHMARKS[name]


def main_grader(name: str) -> Grader:
    """The grader that a benchmark names first. Raises: ConfigError: as `get_benchmark`."""
    return get_grader(get_benchmark(name).graders[0])
