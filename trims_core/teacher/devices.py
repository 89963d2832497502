"""Whether CUDA devices are there, asked without starting CUDA: a process that did could not fork workers."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping


def has_cuda(env: Mapping[str, str] | None = None) -> bool:
    """True if NVIDIA's management library counts a device and CUDA_VISIBLE_DEVICES does not hide all."""
    visible = (os.environ if env is None else env).get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return False
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    if nvml.nvmlInit_v2() != 0:
        return False
    count = ctypes.c_uint(0)
    status = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    nvml.nvmlShutdown()
    return bool(status == 0 and count.value > 0)
