"""D2F (arXiv 2508.09192): a student that attends block by block, taught by itself attending to everything."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trims_core.variants.base import VariantConfig


class D2fVariant(VariantConfig):
    """Block-causal attention, noisier from block to block; the teacher is the student without its adapter."""

    module: ClassVar[str] = "d2f"

    method: Literal["d2f"] = "d2f"
    block_length: Annotated[int, Field(ge=1)] = 16
    """Positions of a block. The adapter says so, and is decoded in blocks of this length only:
    sweep.block_length has to be the same."""
    noise_min: Annotated[float, Field(gt=0, le=1)] = 0.2
    noise_max: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share of a block that is masked: of the first uniform between these numbers, growing from there from
    block to block, at most to the second."""
    self_align: bool = True
    """Whether the teacher's distributions are learned; else the answer's own tokens."""
    compat: bool = False
    """As published: the noise grows by the blocks of the micro-batch's longest answer, and blocks that hold
    nothing but ends have a loss."""

    @property
    def passes(self) -> int:
        """One more for the teacher."""
        return 1 + self.self_align

    @property
    def reads_reference(self) -> bool:  # type: ignore[override]
        """As the teacher."""
        return self.self_align

    @property
    def block_causal_length(self) -> int:
        """Its blocks."""
        return self.block_length

    def title(self) -> str:
        """With its blocks."""
        taught = "" if self.self_align else ", hard labels"
        return f"D2F (block-causal attention, blocks of {self.block_length}{taught})"

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.noise_min > self.noise_max:
            raise ValueError(f"noise_min {self.noise_min:g} is above noise_max {self.noise_max:g}; swap them")
        return self
