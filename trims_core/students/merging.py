"""One rule for how an adapter is computed with: in the weights where they hold it, else beside them.

A sum in the weights' type keeps of an update what is not smaller than their spacing: in bfloat16 an update a
thousand times smaller than the weights is lost. So the share that survives is measured for every module,
in its own weights: with the update Δ and the change c that rounding leaves of it, share = c·Δ / Δ·Δ. Where it
is LEAST_SHARE or more, the sum replaces the weights, and a forward costs what the untuned student's does.
Elsewhere the two matrices stay beside the weights, in the type of the weights.

Sweeps, `trims generate`, `trims chat` and `trims export` all load an adapter by this rule.

Covered: LoRA, rsLoRA, DoRA; float32, bfloat16, float16. Not covered: weights in 4 bits and weights that are
not in memory, to which nothing is added.
Importing this module imports no torch.
Source: own derivation; tests/inputs/test_merging.py compares with sums in float64.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

    from trims_core.students.loading import Student

logger = logging.getLogger(__name__)

LEAST_SHARE: Final = 0.99
MERGE_RULE: Final = 1
"""Part of the keys of what is decoded with adapters in narrow types; float32 sums as it always did."""


@dataclass(frozen=True)
class Merge:
    """What became of an adapter's modules."""

    shares: Mapping[str, float]
    """Official module name -> share of its update that the weights' type holds; NaN where none was tried."""
    dtype: str

    @property
    def apart(self) -> tuple[str, ...]:
        """Modules whose adapter stays beside the weights."""
        return tuple(name for name, share in self.shares.items() if not share >= LEAST_SHARE)

    def __str__(self) -> str:
        n, n_apart = len(self.shares), len(self.apart)
        if not n_apart:
            return f"adapter: merged into the {self.dtype} weights of {n} modules"
        tried = [share for share in self.shares.values() if not math.isnan(share)]
        why = (
            f"of an update as little as {min(tried):.0%} survives in them"
            if tried
            else "they cannot be added to"
        )
        return (
            f"adapter: beside the weights in {n_apart} of {n} modules ({self.dtype}; {why}, needed"
            f" {LEAST_SHARE:.0%}), e.g. {self.apart[0]}; a forward costs more there"
        )


def merge_adapter(student: Student) -> Merge:
    """Put the adapter that a student was loaded with into its weights where they hold it; says what it did.

    `student.model` is the plain module afterwards if nothing stays apart.
    """
    wrapped = student.model
    dtype = wrapped.dtype
    shares = {}
    for name, layer in _lora_layers(wrapped):
        share = _merge_layer(layer)
        shares[student.family.official_name(name)] = share
        if share >= LEAST_SHARE:
            parent, _, leaf = name.rpartition(".")
            setattr(wrapped.get_base_model().get_submodule(parent), leaf, layer.get_base_layer())
        else:
            _cast_adapter(layer, dtype)
    merge = Merge(shares, str(dtype).removeprefix("torch."))
    if merge.apart:
        logger.warning("%s", merge)
    else:
        student.model = wrapped.unload().eval()
        logger.info("%s", merge)
    return merge


def _lora_layers(wrapped: Any) -> list[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    modules = wrapped.get_base_model().named_modules()
    return [(name, module) for name, module in modules if isinstance(module, LoraLayer)]


def _merge_layer(layer: Any) -> float:
    """The share of a module's update that its weights' type holds; they are the sum where that is enough."""
    import torch

    weight = layer.get_base_layer().weight
    before = weight.data
    if before.is_meta or not before.is_floating_point():
        return math.nan
    weight.data = before.float() if before.dtype != torch.float32 else before.clone()
    layer.merge()
    rounded = weight.data.to(before.dtype)
    update = (weight.data - before).double().flatten()
    change = (rounded.float() - before.float()).double().flatten()
    share = float(change @ update / (update @ update)) if update.any() else 1.0
    weight.data = rounded if share >= LEAST_SHARE else before
    layer.merged_adapters.clear()
    return share


def _cast_adapter(layer: Any, dtype: torch.dtype) -> None:
    """The adapter's matrices in the network's type; its weights stay as they are."""
    for name in layer.adapter_layer_names:
        for part in getattr(layer, name).parameters():
            part.data = part.data.to(dtype)
