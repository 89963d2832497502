"""Settings of LIFT and GIFT, whose masks follow the student's own likelihoods: no teacher, no rollouts."""

from __future__ import annotations

from typing import ClassVar, Literal

from trims_core.variants.base import VariantConfig


class LiftVariant(VariantConfig):
    """Masks that keep the easiest of many masked tokens, or the hardest of few."""

    module: ClassVar[str] = "lift"

    method: Literal["lift"] = "lift"
    components: Literal[2, 3] = 3
    """3: easiest, hardest, or any, whichever scores highest at t. 2: easiest for t above ½, else hardest."""
    divide_by_t: bool = True
    """As the published commands ask for; the published program's own default is not to."""
    compat: bool = False
    """As published: the micro-batch's mean t chooses for all of its sequences, no token may stay masked, and
    Dream is trained on predictions that it does not decode with (read at the token instead of left of it)."""

    @property
    def passes(self) -> int:
        """One without gradient ranks the tokens."""
        return 2

    def title(self) -> str:
        """With what distinguishes it."""
        return "LIFT" + (", two components" if self.components == 2 else "")


class GiftVariant(VariantConfig):
    """Masks that hide what the student is unsure of more often, and count it less."""

    module: ClassVar[str] = "gift"

    method: Literal["gift"] = "gift"
    compat: bool = False
    """As published: β̄ is the micro-batch's mean, the loss is divided by the masked tokens of the micro-batch,
    and the smallest t_i may be 0."""

    @property
    def passes(self) -> int:
        """One without gradient measures the entropies."""
        return 2

    def title(self) -> str:
        """Its name."""
        return "GIFT"
