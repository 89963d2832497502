"""What numbers depend on beside settings and weights: machine, number format, versions.

Importing this module imports torch.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any, Final

import torch

from trims_core.students import Student

_CPU_NAMES: Final = Path("/proc/cpuinfo")


def conditions_of(student: Student) -> dict[str, Any]:
    """device (a GPU's or processor's name), dtype, torch, cuda (null on a CPU), masks_pads."""
    weight = next(student.model.parameters())
    on_gpu = weight.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(weight.device) if on_gpu else _processor(),
        "dtype": str(weight.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
        "masks_pads": True,
    }


def _processor() -> str:
    """The processor's name; where the system does not tell it, the kind of machine."""
    if _CPU_NAMES.is_file():
        lines = _CPU_NAMES.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names and names[0]:
            return f"CPU {names[0]}"
    return f"CPU {platform.processor() or platform.machine()}"
