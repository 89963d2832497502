"""Benchmarks by name."""

from __future__ import annotations

from typing import Final

from trims_core.benchmarks.benchmark import Benchmark
from trims_core.benchmarks.countdown import Countdown
from trims_core.benchmarks.demo import Demo
from trims_core.benchmarks.gsm8k import Gsm8k
from trims_core.benchmarks.math import Math
from trims_core.benchmarks.qa import Qa
from trims_core.benchmarks.sudoku import Sudoku
from trims_core.errors import ConfigError, nearest_name

_ALL: Final = (Demo(), Gsm8k(), Math(), Countdown(), Sudoku(), Qa())
BENCHMARKS: Final[dict[str, Benchmark]] = {benchmark.name: benchmark for benchmark in _ALL}


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of this name. Raises: ConfigError naming the known ones."""
    if name not in BENCHMARKS:
        raise ConfigError(f"benchmark {name!r} is not known; {nearest_name(name, BENCHMARKS)}")
    return BENCHMARKS[name]
