"""What a training process tells the outside: metrics.jsonl row by row, and where it is (progress.json)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from trims_core.store.durable import write_atomically

MEASURED: Final = ("seconds", "tokens_per_second", "peak_memory_mib", "mfu")
"""Columns that depend on the machine and the moment; all others are the same whenever a run is repeated."""
_MIN_INTERVAL_S: Final = 0.5


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file; a last line cut short by a crash is left out. Empty where absent."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


class MetricsLog:
    """Appends rows to metrics.jsonl; after a resume, rows beyond the checkpoint are dropped first."""

    def __init__(self, path: Path, resume_step: int) -> None:
        kept = [row for row in read_metrics(path) if row["step"] <= resume_step] if resume_step else []
        self._before_s = kept[-1]["seconds"] if kept else 0.0
        self._start = time.monotonic()
        write_atomically(path, "".join(map(_line, kept)).encode())
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def append(self, step: int, kind: str, **values: Any) -> None:
        """One row; `seconds` of training time are added, those before a resume included."""
        seconds = round(self._before_s + time.monotonic() - self._start, 3)
        self._file.write(_line({"step": step, "kind": kind, **values, "seconds": seconds}))

    def close(self) -> None:
        """No more rows."""
        self._file.close()


class ProgressFile:
    """Says how far the training process is, at most twice a second; read by the launching process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = -_MIN_INTERVAL_S

    def tell(self, done: int, total: int, note: str, *, always: bool = False) -> None:
        """Replace the file's content."""
        now = time.monotonic()
        if not always and now - self._last < _MIN_INTERVAL_S and done != total:
            return
        self._last = now
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"done": done, "total": total, "note": note}), encoding="utf-8")
        temporary.replace(self._path)


def read_progress(path: Path) -> tuple[int, int, str] | None:
    """(steps done, steps in all, note), or None before the process has said anything."""
    if not path.exists():
        return None
    said = json.loads(path.read_text(encoding="utf-8"))
    return said["done"], said["total"], said["note"]


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
