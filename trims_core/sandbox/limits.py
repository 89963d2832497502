"""What one program may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one program and, apart from it, of the process that judges it. They hold for root, too."""

    time_s: float = 30.0
    """From its start to its verdict, tests included, on the clock."""
    cpu_s: int = 10
    """CPU seconds of each of the two processes, which a busy machine makes no longer."""
    memory_mib: int = 1024
    """Address space of each."""
    threads: int = 16
    """Of program and judge together. Processes: the program has one, which starts no other."""
    file_mib: int = 1
    """One file's size. No folder can be written to; this bounds files in memory."""
    open_files: int = 64
    start_s: float = 30.0
    """Until the sandbox stands, which is no time of the program's; longer is the sandbox' own trouble."""
