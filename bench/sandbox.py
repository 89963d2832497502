"""Sandboxed programs per second on two CPUs, each in a box of its own with its tests: one JSON line.

usage: python bench/sandbox.py [--n N] [--workers N] [--quick]
The claim: at least 20 per second on two cores that do nothing else. The programs import `typing` and `math`,
as HumanEval's prompts do, and answer ten questions. Baseline: the same programs with their tests in a bare
Python each, which is what an interpreter's start costs; `ratio_bare` is how much longer a box takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from subprocess import run

from trims_core.sandbox import Program, Sandbox
from trims_core.sandbox.box import bare_command

LIMIT_PER_SECOND = 20.0
QUICK_PER_SECOND = 0.5
SOURCE = "from typing import List\nimport math\n\n\ndef ceil_all(numbers: List[float]) -> List[int]:\n"
BODY = "    return [math.ceil(number) for number in numbers]\n"
TESTS = tuple(f"assert ceil_all([{n}.5, {n}]) == [{n + 1}, {n}]" for n in range(10))


def main() -> int:
    """0 if the claim holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="few programs: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.n = 8
    program = Program(SOURCE + BODY, ("ceil_all",), TESTS)
    sandbox = Sandbox()
    started = time.perf_counter()
    outcomes = sandbox.run_all([program] * options.n, options.workers)
    seconds = time.perf_counter() - started
    bare_seconds = bare(options.n, options.workers)
    limit = QUICK_PER_SECOND if options.quick else LIMIT_PER_SECOND
    n_right = sum(outcome.verdict == "right" for outcome in outcomes)
    line = {
        "bench": "sandbox",
        "mark": sandbox.mark,
        "n": options.n,
        "workers": options.workers,
        "n_right": n_right,
        "programs_per_second": round(options.n / seconds, 1),
        "bare_per_second": round(options.n / bare_seconds, 1),
        "ratio_bare": round(seconds / bare_seconds, 2),
        "limit_per_second": limit,
        "passed": n_right == options.n and options.n / seconds >= limit,
    }
    print(json.dumps(line))
    return 0 if line["passed"] else 1


def bare(n: int, workers: int) -> float:
    """Seconds that the same takes without any box."""
    command = [*bare_command()[:-1], "\n".join((SOURCE + BODY, *TESTS))]
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        for done in pool.map(lambda _: run(command, check=False), range(n)):
            assert done.returncode == 0
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
