"""What a training leaves behind: an adapter, or a whole checkpoint, under the official module names."""

from __future__ import annotations

from typing import Any

from trims_core.training.settings import base_name
from trims_core.training.spec import TrainSpec


def write_result(spec: TrainSpec, model: Any) -> None:
    """Write the trained weights into the folder `spec.adapter`."""
    from trims_core.students import save_adapter_official

    save_adapter_official(model, spec.adapter, base=base_name(spec.student))
