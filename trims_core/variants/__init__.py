"""Settings of `train.variants`: a union by `method`, one class per method, each with its own fields.

The method itself is in trims_core.training.methods, in the module that the class names.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Tag

from trims_core.variants.base import Answers, EndsConfig, Order, Pads, Role, RolloutVariant, VariantConfig
from trims_core.variants.cj_grpo import CjGrpoVariant
from trims_core.variants.d2f import D2fVariant
from trims_core.variants.d3llm import D3llmVariant
from trims_core.variants.dparallel import DParallelVariant
from trims_core.variants.lift import GiftVariant, LiftVariant
from trims_core.variants.rounds import RoundsVariant
from trims_core.variants.tabom import TabomVariant
from trims_core.variants.tad import TadVariant
from trims_core.variants.trims import LossWeight, StandardVariant, TrimsVariant


def _method(value: Any) -> str:
    """What a variant calls its method; TRIMS where it names none."""
    name = value.get("method", "trims") if isinstance(value, dict) else getattr(value, "method", "trims")
    return str(name)


Variant: TypeAlias = Annotated[
    Annotated[TrimsVariant, Tag("trims")]
    | Annotated[StandardVariant, Tag("standard")]
    | Annotated[LiftVariant, Tag("lift")]
    | Annotated[GiftVariant, Tag("gift")]
    | Annotated[TabomVariant, Tag("tabom")]
    | Annotated[DParallelVariant, Tag("dparallel")]
    | Annotated[CjGrpoVariant, Tag("cj_grpo")]
    | Annotated[D2fVariant, Tag("d2f")]
    | Annotated[D3llmVariant, Tag("d3llm")]
    | Annotated[TadVariant, Tag("tad")],
    Discriminator(_method),
]

__all__ = [
    "Answers",
    "CjGrpoVariant",
    "D2fVariant",
    "D3llmVariant",
    "DParallelVariant",
    "EndsConfig",
    "GiftVariant",
    "LiftVariant",
    "LossWeight",
    "Order",
    "Pads",
    "Role",
    "RolloutVariant",
    "RoundsVariant",
    "StandardVariant",
    "TabomVariant",
    "TadVariant",
    "TrimsVariant",
    "Variant",
    "VariantConfig",
]
