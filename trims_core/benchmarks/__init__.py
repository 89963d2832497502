"""Benchmarks: problems, and the graders that judge answers to them."""

from trims_core.benchmarks.benchmark import Benchmark, Problem
from trims_core.benchmarks.graders import GRADERS, Grade, Grader, get_grader
from trims_core.benchmarks.graders.of_corpus import OwnGrader, find_grader, grader_version
from trims_core.benchmarks.registry import BENCHMARKS, get_benchmark
from trims_core.benchmarks.tasks import graders_of, load_tasks, problems_digest, problems_with, task_digests
from trims_core.raw_rows import Source

__all__ = [
    "BENCHMARKS",
    "GRADERS",
    "Benchmark",
    "Grade",
    "Grader",
    "OwnGrader",
    "Problem",
    "Source",
    "find_grader",
    "get_benchmark",
    "get_grader",
    "grader_version",
    "graders_of",
    "load_tasks",
    "problems_digest",
    "problems_with",
    "task_digests",
]
