"""Benchmarks: problems, how an answer is found in a text, and when it is right."""

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.benchmarks.registry import BENCHMARKS, get_benchmark
from trims_core.benchmarks.sources import Source

__all__ = ["BENCHMARKS", "Benchmark", "Problem", "Source", "get_benchmark"]
