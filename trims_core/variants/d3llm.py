"""d3LLM (arXiv 2601.07568): masks along the decoding of the student's own answers, in a block that grows."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trims_core.sections import Fraction
from trims_core.variants.base import RolloutVariant
from trims_core.variants.blocks import BlockLengths


def _shift(value: Any) -> Any:
    if value in ("permuted", "random") or (
        isinstance(value, int) and not isinstance(value, bool) and value >= 0
    ):
        return value
    raise ValueError("expected a number of tokens from 0 on, permuted, or random")


class D3llmVariant(RolloutVariant):
    """One block of an answer as it stood at one step of its decoding, and the complement."""

    module: ClassVar[str] = "d3llm"

    method: Literal["d3llm"] = "d3llm"
    block_lengths: BlockLengths = None
    """Tokens of the block over the run, from the first to the last and interpolated between, or the whole
    answer; default: 16, 16, 24, 24, 32, 32 for LLaDA, 16, 24, 32 for Dream. Masks are the rollouts' own only
    where this is the block length that they were decoded with."""
    mask_ratio_min: Fraction = 0.0
    mask_ratio_max: Fraction = 0.8
    """The hidden share of the block is uniform between two bounds; the lower one grows linearly from the
    first of these numbers to the second over the run."""
    shift: Annotated[int | Literal["permuted", "random"], BeforeValidator(_shift)] = 0
    """Tokens by which the rollout's steps are read too late, as an ablation: 0 is right, the published LLaDA
    data are read 10 late. permuted: steps are shuffled inside the answer. random: no step is read."""
    complement: bool = True
    """Whether what the first canvas shows of the block is learned from a second one."""
    entropy_weight: Annotated[float, Field(ge=0)] | None = None
    """Of the entropy of right predictions; default: 2 for LLaDA, 1 for Dream."""
    entropy_views: Literal["first", "both"] | None = None
    """Canvases that have that term; default: the first for LLaDA, both for Dream."""
    temperature: Annotated[float, Field(gt=0)] = 0.5
    """At which that entropy is taken."""
    compat: bool = False
    """As published: the last block runs to the end of the canvas and may be empty, and without the complement
    the loss is divided by 4 all the same."""

    @property
    def passes(self) -> int:
        """One for each canvas."""
        return 1 + self.complement

    def title(self) -> str:
        """With what is done to its trajectories."""
        read = {0: "", "permuted": ", steps permuted", "random": ", random masks"}
        late = f", steps read {self.shift} tokens late"
        return f"d3LLM (trajectory distillation{read.get(self.shift, late)})"

    def unread(self) -> frozenset[str]:
        """The entropy's settings where it has no weight or only one canvas."""
        if self.entropy_weight == 0:
            return frozenset({"entropy_views", "temperature"})
        return frozenset() if self.complement else frozenset({"entropy_views"})

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.mask_ratio_min > self.mask_ratio_max:
            raise ValueError(
                f"mask_ratio_min {self.mask_ratio_min:g} is above mask_ratio_max {self.mask_ratio_max:g};"
                " swap them"
            )
        return self
