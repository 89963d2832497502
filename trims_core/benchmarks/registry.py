"""Benchmarks by name."""

from __future__ import annotations

import difflib
from typing import Final

from trims_core.benchmarks.benchmark import Benchmark
from trims_core.benchmarks.demo import Demo
from trims_core.benchmarks.gsm8k import Gsm8k
from trims_core.errors import ConfigError

BENCHMARKS: Final[dict[str, Benchmark]] = {benchmark.name: benchmark for benchmark in (Demo(), Gsm8k())}


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of this name. Raises: ConfigError naming the known ones."""
    if name not in BENCHMARKS:
        nearest = difflib.get_close_matches(name, BENCHMARKS, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ConfigError(f"benchmark {name!r} is not known; {hint}known: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
