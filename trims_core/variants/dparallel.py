"""dParallel (arXiv 2509.26488): random masks in one block of the student's own answers, and certainty."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trims_core.sections import Fraction
from trims_core.variants.base import RolloutVariant
from trims_core.variants.blocks import BlockLength


class DParallelVariant(RolloutVariant):
    """A block of an answer masked at random, and its complement; right predictions are made surer."""

    module: ClassVar[str] = "dparallel"

    method: Literal["dparallel"] = "dparallel"
    block_length: BlockLength = None
    """Tokens of the block, or the whole answer; default: 32 for LLaDA, the whole answer for Dream."""
    mask_ratio: Fraction = 0.5
    """Probability that a token of the block is hidden; the complement hides the others."""
    complement: bool = True
    """Whether what the first canvas shows of the block is learned from a second one."""
    entropy_weight: Annotated[float, Field(ge=0)] | None = None
    """Of the entropy of right predictions; default: 2 for LLaDA, 1 for Dream."""
    temperature: Annotated[float, Field(gt=0)] = 0.5
    """At which that entropy is taken."""
    compat: bool = False
    """As released: the drawn block may be empty, and of several sequences in a micro-batch each is masked in
    the blocks of all, its prompt included, and only the last one's later blocks are hidden."""

    @property
    def passes(self) -> int:
        """One for each canvas."""
        return 1 + self.complement

    def title(self) -> str:
        """Its name in the paper."""
        return "dParallel (certainty-forcing distillation)"

    def unread(self) -> frozenset[str]:
        """The temperature where the entropy has no weight."""
        return frozenset({"temperature"}) if self.entropy_weight == 0 else frozenset()
