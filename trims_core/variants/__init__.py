"""Settings of `train.variants`: a union by `method`, one class per method, each with its own fields.

The method itself is in trims_core.training.methods, in the module that the class names.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Tag

from trims_core.variants.base import EndsConfig, Order, Pads, Role, VariantConfig
from trims_core.variants.lift import GiftVariant, LiftVariant
from trims_core.variants.trims import LossWeight, StandardVariant, TrimsVariant


def _method(value: Any) -> str:
    """What a variant calls its method; TRIMS where it names none."""
    name = value.get("method", "trims") if isinstance(value, dict) else getattr(value, "method", None)
    return str(name)


Variant: TypeAlias = Annotated[
    Annotated[TrimsVariant, Tag("trims")]
    | Annotated[StandardVariant, Tag("standard")]
    | Annotated[LiftVariant, Tag("lift")]
    | Annotated[GiftVariant, Tag("gift")],
    Discriminator(_method),
]

__all__ = [
    "EndsConfig",
    "GiftVariant",
    "LiftVariant",
    "LossWeight",
    "Order",
    "Pads",
    "Role",
    "StandardVariant",
    "TrimsVariant",
    "Variant",
    "VariantConfig",
]
