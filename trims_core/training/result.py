"""What a training leaves behind: an adapter, or a whole checkpoint, under the official module names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from trims_core.training.settings import base_name
from trims_core.training.spec import TrainSpec


def write_adapter(spec: TrainSpec, adapted: Any) -> None:
    """Write the adapter of a model that PEFT has wrapped into the folder `spec.adapter`."""
    from trims_core.students import save_adapter_official

    length = spec.variant.block_causal_length
    save_adapter_official(adapted, spec.adapter, base=base_name(spec.student), block_causal_length=length)


def write_checkpoint(spec: TrainSpec, student: Any, weights: Mapping[str, Tensor]) -> None:
    """Write a whole checkpoint into the folder `spec.adapter`, its weights in `student.dtype`.

    Args:
        student: what was loaded: its family, tokenizer, and the module that names the weights.
        weights: the trained ones, by their names inside.
    """
    import torch

    from trims_core.students import copy_companions, save_official

    dtype = getattr(torch, spec.student.dtype)
    save_official(
        student.model,
        student.family.attending_in_blocks(spec.variant.block_causal_length).config,
        student.tokenizer if student.has_tokenizer else None,
        spec.adapter,
        weights={name: weight.to(dtype) for name, weight in weights.items()},
    )
    copy_companions(spec.student.model, spec.student.revision, spec.adapter)
