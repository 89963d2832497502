"""What hardware this host has, for manifests: asked of its files, no driver is started."""

from __future__ import annotations

import functools
import os
import platform
from collections import Counter
from pathlib import Path
from typing import Final

_PROCESSORS: Final = Path("/proc/cpuinfo")
_GPUS: Final = Path("/proc/driver/nvidia/gpus")


def processor(about: Path = _PROCESSORS) -> str:
    """`CPU <name>`; where the system does not tell the name, the kind of machine."""
    names = _told(about, "model name")
    return f"CPU {names[0] if names else platform.processor() or platform.machine()}"


@functools.cache
def machine(processors: Path = _PROCESSORS, gpus: Path = _GPUS) -> str:
    """`8 × NVIDIA H100 80GB HBM3, 96 × CPU <name>`: NVIDIA's GPUs as their driver names them, processors.

    All of the host, whatever a process may use of it.
    """
    models = Counter(name for one in sorted(gpus.glob("*/information")) for name in _told(one, "Model"))
    found = [f"{n} × {name}" for name, n in models.items()]
    return ", ".join([*found, f"{os.cpu_count()} × {processor(processors)}"])


def _told(file: Path, name: str) -> list[str]:
    """Values of the lines `name: value` that have one."""
    if not file.is_file():
        return []
    lines = (line.partition(":") for line in file.read_text("utf-8", errors="replace").splitlines())
    return [value.strip() for key, _, value in lines if key.strip() == name and value.strip()]
