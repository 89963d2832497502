"""Exact bucket edges of n float32 in Parquet list columns: this project, DuckDB and Polars.

    python bench/quantiles.py [--n 1e8] [--runs 3] [--folder DIR]

Claim: at most 0.6 times the time of DuckDB's quantile_disc and 0.15 times that of Polars' lazy quantile,
with a peak memory that does not grow with n. Two cases: continuous values, and 30 % exact zeros. Every
contender runs in a process of its own that reads the same files; the runs are interleaved and compared
pairwise, because machines are shared and noisy. Imports are not timed; peak memory is the process's
maximum resident set, so it includes them. The edges must be equal bit for bit: those at
the 0-based ranks ⌈g·n/8⌉ − 1.

Prints one JSON line, and each run on the error stream as it ends. The data (4 bytes per value and case) go to
a temporary folder and are deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

PROJECT_ROOT: Final = Path(__file__).resolve().parent.parent
K: Final = 8
CASES: Final = {"continuous": 0.0, "zeros_30_percent": 0.3}
COLUMN: Final = "difficulty_nats"
VALUES_PER_FILE: Final = 1_000_000
TOKENS_PER_ROW: Final = 200
BARS: Final = {"duckdb": 0.6, "polars": 0.15, "memory_growth": 1.2}


def write_files(folder: Path, n_values: int, zeros: float) -> None:
    """Log-normal difficulties over many decades, a share of them exactly 0, in shards as the stage writes."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    rng = np.random.default_rng(7)
    for number, start in enumerate(range(0, n_values, VALUES_PER_FILE)):
        size = min(VALUES_PER_FILE, n_values - start)
        values = np.exp(rng.normal(-3.0, 3.0, size)).astype(np.float32)
        values[rng.random(size) < zeros] = 0.0
        offsets = np.append(np.arange(0, size, TOKENS_PER_ROW), size).astype(np.int32)
        ids = pa.array([f"{number}-{row}" for row in range(len(offsets) - 1)])
        table = pa.table({"id": ids, COLUMN: pa.ListArray.from_arrays(offsets, values)})
        pq.write_table(table, folder / f"part-{number:05d}.parquet", compression="zstd")


def ours(files: Sequence[Path]) -> Callable[[], list[float]]:
    """Counts of bit patterns."""
    from trims_core.difficulty.buckets import cut_ranks
    from trims_core.difficulty.quantiles import ListColumn, order_statistics

    column = ListColumn(tuple(files), COLUMN)

    def edges() -> list[float]:
        found = order_statistics(column, lambda n: [rank - 1 for rank in cut_ranks(n, K)])
        return [float(value) for value in found.values]

    return edges


def duckdb(files: Sequence[Path]) -> Callable[[], list[float]]:
    """quantile_disc, which takes the value at rank ⌈q·n⌉ − 1."""
    import duckdb as engine

    def edges() -> list[float]:
        fractions = [g / K for g in range(1, K)]
        query = (
            f"SELECT quantile_disc(v, {fractions}) FROM (SELECT unnest({COLUMN}) AS v FROM read_parquet(?))"
        )
        with engine.connect() as connection:
            row = connection.execute(query, [[str(file) for file in files]]).fetchone()
        assert row is not None
        return [float(value) for value in row[0]]

    return edges


def polars(files: Sequence[Path]) -> Callable[[], list[float]]:
    """Lazy quantiles with the same rank rule ("equiprobable") on the streaming engine, all in one query."""
    import polars as pl

    def edges() -> list[float]:
        values = pl.scan_parquet(list(files), glob=False).select(pl.col(COLUMN).explode())
        wanted = [pl.col(COLUMN).quantile(g / K, "equiprobable").alias(str(g)) for g in range(1, K)]
        return [float(value) for value in values.select(wanted).collect(engine="streaming").row(0)]

    return edges


CONTENDERS: Final = {"ours": ours, "duckdb": duckdb, "polars": polars}


def run_child(name: str, folder: Path) -> dict[str, Any]:
    """Seconds, peak MiB and edges of one contender in a new process."""
    command = [sys.executable, __file__, "--contender", name, "--folder", str(folder)]
    paths = os.pathsep.join([str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def child(name: str, folder: Path) -> None:
    """Prints what `run_child` reads."""
    edges = CONTENDERS[name](sorted(folder.iterdir()))
    started = time.perf_counter()
    found = edges()
    seconds = time.perf_counter() - started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib, "edges": [edge.hex() for edge in found]}))


def compare(folder: Path, n_values: int, zeros: float, runs: int) -> dict[str, Any]:
    """One case: interleaved runs of all contenders, and ours at a tenth of the values for its memory."""
    write_files(folder / "all", n_values, zeros)
    write_files(folder / "tenth", n_values // 10, zeros)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    tenth = []
    for number in range(runs):
        for name in CONTENDERS:
            found = run_child(name, folder / "all")
            results[name].append(found)
            note = f"run {number + 1} of {runs}: {name} {found['seconds']:.2f} s, {found['peak_mib']:.0f} MiB"
            print(note, file=sys.stderr, flush=True)
        tenth.append(run_child("ours", folder / "tenth"))
    edges = {tuple(run["edges"]) for group in results.values() for run in group}
    case: dict[str, Any] = {
        "edges_equal": len(edges) == 1,
        "edges_nats": [float.fromhex(e) for e in min(edges)],
    }
    for name, group in results.items():
        case[f"{name}_s"] = _spread([run["seconds"] for run in group])
        case[f"{name}_peak_mib"] = _spread([run["peak_mib"] for run in group])
    for name in ("duckdb", "polars"):
        pairs = zip(results["ours"], results[name], strict=True)
        case[f"time_vs_{name}"] = _spread([mine["seconds"] / other["seconds"] for mine, other in pairs])
    growth = zip(results["ours"], tenth, strict=True)
    case["memory_growth_from_a_tenth"] = _spread(
        [all_["peak_mib"] / part["peak_mib"] for all_, part in growth]
    )
    return case


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def passed(case: dict[str, Any]) -> bool:
    """Whether one case meets the claim."""
    growth = case["memory_growth_from_a_tenth"]["median"]
    return bool(
        case["edges_equal"]
        and case["time_vs_duckdb"]["median"] <= BARS["duckdb"]
        and case["time_vs_polars"]["median"] <= BARS["polars"]
        and 2 - BARS["memory_growth"] <= growth <= BARS["memory_growth"]
    )


def main() -> None:
    """Runs the benchmark, or one contender of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=float, default=1e8, help="values per case")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the temporary data go (default: the system's)")
    parser.add_argument("--contender", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        child(options.contender, options.folder)
        return
    line: dict[str, Any] = {
        "bench": "quantiles",
        "n": int(options.n),
        "k": K,
        "runs": options.runs,
        "bars": BARS,
    }
    for name, zeros in CASES.items():
        with tempfile.TemporaryDirectory(prefix="trims-quantiles-", dir=options.folder) as folder:
            line[name] = compare(Path(folder), int(options.n), zeros, options.runs)
    line["passed"] = all(passed(line[name]) for name in CASES)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
