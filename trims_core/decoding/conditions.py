"""What numbers depend on beside settings and weights: machine, number format, versions.

Importing this module imports torch.
"""

from __future__ import annotations

from typing import Any

import torch

from trims_core.machine import processor
from trims_core.students import Student


def conditions_of(student: Student) -> dict[str, Any]:
    """device (a GPU's or processor's name), dtype, torch, cuda (null on a CPU), masks_pads."""
    weight = next(student.model.parameters())
    on_gpu = weight.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(weight.device) if on_gpu else processor(),
        "dtype": str(weight.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
        "masks_pads": True,
    }
