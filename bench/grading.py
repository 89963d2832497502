"""Seconds that all graders take for LLaDA-8B-Instruct's 2,142 stored answers: one JSON line.

usage: python bench/grading.py [--data FOLDER] [--runs N] [--quick]
The claim: every grader that applies to GSM8K, MATH-500, Countdown or Sudoku judges every stored answer of its
task (../shared/data/llada_outputs) in at most 60 s altogether on two cores, math_verify's processes started
anew each time. Spread: the runs' minimum and maximum; what each grader takes is of the median run. The
machine's load is told beside: seconds are of the wall, and other work on the cores counts in.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

PROJECT_ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT_ROOT), str(PROJECT_ROOT / "tests")]

from fakes.llada_outputs import N_ANSWERS, Answer, answers  # noqa: E402

from trims_core.benchmarks import get_benchmark, get_grader  # noqa: E402
from trims_core.benchmarks.graders.symbolic import WORKER  # noqa: E402
from trims_core.benchmarks.graders.worker_pool import shared_pool  # noqa: E402

LIMIT_S: Final = 60.0
BENCHMARK_OF: Final = {"math500": "math"}
"""Where a benchmark is called otherwise than its answers."""
QUICK: Final = 5


def main() -> int:
    """0 if the claim holds; --quick judges a few answers of each task and no time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=PROJECT_ROOT.parent / "shared", help="the folder shared/"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a few answers: does it run?")
    options = parser.parse_args()
    asked = {task: answers(options.data, task)[: QUICK if options.quick else None] for task in N_ANSWERS}
    runs = sorted((_run(asked) for _ in range(1 if options.quick else options.runs)), key=_total)
    middle = runs[len(runs) // 2]
    seconds = statistics.median(map(_total, runs))
    found = {
        "bench": "grading",
        "n_answers": sum(map(len, asked.values())),
        "n_verdicts": sum(verdicts.total() for _, verdicts in middle.values()),
        "n": len(runs),
        "seconds": round(seconds, 2),
        "spread": [round(_total(runs[0]), 2), round(_total(runs[-1]), 2)],
        "limit_s": LIMIT_S,
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "cpu_seconds_per_run": round(_cpu_seconds() / len(runs), 2),
        "graders": {
            name: {"seconds": round(took, 2), **verdicts} for name, (took, verdicts) in middle.items()
        },
    }
    print(json.dumps(found))
    return 0 if options.quick or seconds <= LIMIT_S else 1


def _run(asked: dict[str, list[Answer]]) -> dict[str, tuple[float, Counter[str]]]:
    """`task/grader` → seconds and verdicts."""
    found = {}
    shared_pool(WORKER).close()
    for task, given in asked.items():
        texts, golds = [one.shown for one in given], [one.gold for one in given]
        for name in get_benchmark(BENCHMARK_OF.get(task, task)).graders:
            start = time.perf_counter()
            grades = get_grader(name).grades(texts, golds)
            found[f"{task}/{name}"] = time.perf_counter() - start, Counter(one.verdict for one in grades)
    return found


def _total(run: dict[str, tuple[float, Counter[str]]]) -> float:
    return sum(seconds for seconds, _ in run.values())


def _cpu_seconds() -> float:
    """Of this process and of those that have ended."""
    shared_pool(WORKER).close()
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    sys.exit(main())
