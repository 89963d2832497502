"""Seconds and bytes per unit recorded in a store, last tenth against first tenth: one JSON line.

usage: python bench/units.py [--n N] [--folder FOLDER]
The claim: recording a unit costs the same however many there are (ratio at most 1.2), because a unit is a
folder of its own and no list of units is rewritten. Baseline: the first tenth of the same units. It is
recorded once more, into an empty store, in turns with the last tenth, so that both find the disk equally
busy; medians count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from trims_core.store import Made, Store, UnitKey

LIMIT_RATIO = 1.2
FILE_BYTES = 200


def main() -> int:
    """0 if the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="units, at least 10")
    parser.add_argument(
        "--folder", type=Path, help="where the store lies meanwhile; default: a temporary folder"
    )
    options = parser.parse_args()
    if options.n < 10:
        parser.error("--n: expected at least 10")
    tenth = options.n // 10
    first: list[tuple[float, int]] = []
    last: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        full, fresh = Store(Path(folder, "full")), Store(Path(folder, "fresh"))
        start = time.perf_counter()
        before = [_record(full, number) for number in range(options.n - tenth)]
        seconds = time.perf_counter() - start
        for number in range(tenth):
            first.append(_record(fresh, number))
            last.append(_record(full, options.n - tenth + number))
    first_s, last_s = (statistics.median(one for one, _ in tenths) for tenths in (first, last))
    ratio = last_s / first_s
    written = sum(n_bytes for _, n_bytes in (*before, *last))
    print(
        json.dumps(
            {
                "bench": "units",
                "n": options.n,
                "units_per_second": round((options.n - tenth) / seconds, 1),
                "first_tenth_ms_per_unit": round(first_s * 1e3, 3),
                "last_tenth_ms_per_unit": round(last_s * 1e3, 3),
                "ratio_last_to_first_tenth": round(ratio, 3),
                "limit_ratio": LIMIT_RATIO,
                "written_bytes": written,
                "ratio_written_last_to_first_tenth": round(
                    sum(n_bytes for _, n_bytes in last) / sum(n_bytes for _, n_bytes in first), 3
                ),
            }
        )
    )
    return 0 if ratio <= LIMIT_RATIO else 1


def _record(store: Store, number: int) -> tuple[float, int]:
    """Seconds and bytes that making one unit took."""
    before, start = _written_bytes(), time.perf_counter()
    key = UnitKey("bench", 1, {"number": number})
    with store.units.attempt(key) as attempt:
        (attempt.path / "a.bin").write_bytes(number.to_bytes(8) * (FILE_BYTES // 8))
        store.units.publish(attempt, key, Made({"a.bin": None}, {"number": number}))
    return time.perf_counter() - start, _written_bytes() - before


def _written_bytes() -> int:
    """What this process has handed to the kernel for writing so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.partition(":")[2] for line in lines if line.startswith("wchar")))


if __name__ == "__main__":
    sys.exit(main())
