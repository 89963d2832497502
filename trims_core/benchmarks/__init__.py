"""Benchmarks: problems, how an answer is found in a text, and when it is right."""

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.benchmarks.graders import OwnGrader, find_grader, grader_version
from trims_core.benchmarks.registry import BENCHMARKS, get_benchmark
from trims_core.benchmarks.tasks import load_tasks, task_digests
from trims_core.raw_rows import Source

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "OwnGrader",
    "Problem",
    "Source",
    "find_grader",
    "get_benchmark",
    "grader_version",
    "load_tasks",
    "task_digests",
]
