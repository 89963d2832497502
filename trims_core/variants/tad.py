"""TAD (arXiv 2605.09536): what decoding reveals soon from labels, the rest from a teacher that was told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trims_core.privileged import Privilege
from trims_core.variants.base import RolloutVariant


class TadVariant(RolloutVariant):
    """Answers as they stood at one step of their decoding; the student without its adapter, which reads the
    right answer too, teaches what is revealed later."""

    module: ClassVar[str] = "tad"
    reads_reference: ClassVar[bool] = True

    method: Literal["tad"] = "tad"
    window: Annotated[int, Field(ge=1)] | None = None
    """Steps from the drawn one on whose tokens are learned from labels; default: 8 for LLaDA, 6 for Dream."""
    ce_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of what is learned from labels."""
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of what is learned from the teacher; 0: there is none, and no pass of it."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of teacher and student in the divergence, which is multiplied by its square."""
    compat: bool = False
    """As published: the teacher is told an empty answer, and the student learns behind prompts that contain
    the solution; revealed ends are hidden from LLaDA, and Dream attends to dead columns."""

    @property
    def passes(self) -> int:
        """The teacher's has no gradient."""
        return 2 if self.kl_weight else 1

    def title(self) -> str:
        """With its weights, and whether the teacher knows."""
        weights = f"cross-entropy {self.ce_weight:g}, teacher {self.kl_weight:g}"
        return f"TAD ({weights}{', as published' if self.compat else ''})"

    def privileges(self) -> Mapping[str, Privilege]:
        """The teacher's prompts; as published the student's own too."""
        teachers: Privilege = "empty-reference" if self.compat else "reference"
        found: dict[str, Privilege] = {"references": teachers} if self.kl_weight else {}
        return found | ({"prompts": "solution"} if self.compat else {})

    def unread(self) -> frozenset[str]:
        """The temperature where there is no teacher."""
        return frozenset() if self.kl_weight else frozenset({"temperature"})

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if not self.ce_weight and not self.kl_weight:
            raise ValueError("ce_weight and kl_weight are 0: nothing is learned; set one of them above 0")
        return self
