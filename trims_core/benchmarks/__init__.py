"""Benchmarks: problems, how an answer is found in a text, and when it is right."""

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.benchmarks.registry import BENCHMARKS, get_benchmark
from trims_core.benchmarks.sources import Source
from trims_core.benchmarks.tasks import load_tasks, task_digests

__all__ = ["BENCHMARKS", "Benchmark", "Problem", "Source", "get_benchmark", "load_tasks", "task_digests"]
