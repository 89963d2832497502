"""Seconds of `trims run CONFIG` with everything cached, against importing torch: one JSON line.

usage: python bench/cached_run.py [CONFIG] [--runs N]     (the run must have been made before)
The claim: such a run ends within 5 s, because hits are looked up before Prefect's server starts. Baseline:
`python -c "import torch"`, which any program that used the models would pay. Runs alternate; medians count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

LIMIT_S = 5.0


def main() -> int:
    """0 if the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, nargs="?", default=Path("configs/demo.yaml"))
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    command = [sys.executable, "-m", "flows.cli", "run", str(options.config)]
    baseline = [sys.executable, "-c", "import torch"]
    cached_s, torch_s = [], []
    for _ in range(options.runs):
        seconds, said = _timed(command)
        if "to do" in said or " cached " not in said:
            sys.stderr.write(f"not everything was cached:\n{said}")
            return 1
        cached_s.append(seconds)
        torch_s.append(_timed(baseline)[0])
    ratios = [mine / theirs for mine, theirs in zip(cached_s, torch_s, strict=True)]
    print(
        json.dumps(
            {
                "bench": "cached_run",
                "config": str(options.config),
                "n": options.runs,
                "seconds": round(statistics.median(cached_s), 3),
                "max_seconds": round(max(cached_s), 3),
                "limit_seconds": LIMIT_S,
                "ratio_to_import_torch": round(statistics.median(ratios), 3),
            }
        )
    )
    return 0 if max(cached_s) <= LIMIT_S else 1


def _timed(command: list[str]) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


if __name__ == "__main__":
    sys.exit(main())
