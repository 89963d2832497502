"""TABOM (arXiv 2605.11854): what the student decoded next, and in which order, from its own answers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trims_core.variants.base import RolloutVariant


class TabomVariant(RolloutVariant):
    """Answers as they stood at one step of their decoding; the loss is on what the next steps revealed."""

    module: ClassVar[str] = "tabom"

    method: Literal["tabom"] = "tabom"
    window: Annotated[int, Field(ge=1)] = 32
    """Steps behind the cut whose tokens have a loss."""
    rank_window: Annotated[int, Field(ge=1)] = 32
    """Steps behind the cut whose tokens are ranked; what reaches beyond `window` is not."""
    rank_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the rank term (Dream on code: 2)."""
    margin: Annotated[float, Field(ge=0)] | None = None
    """Nats by which an earlier token is to be surer than a later one; default: 0.2 for LLaDA (on code, 0.3 is
    published), 0.1 for Dream."""
    cuts: Literal["any", "out_of_order"] = "any"
    """Steps at which an answer is cut. out_of_order: only those that revealed a token before its left
    neighbour (Dream on code); an answer without such a step has no loss."""
    compat: bool = False
    """As published: the last step is never supervised, answers of `window` steps or fewer have no loss, and
    tokens of one step are ranked too, in the order that an unstable sort gives them."""

    def title(self) -> str:
        """With the weight of its rank term."""
        return f"TABOM (windows of {self.window} decoding steps, rank weight {self.rank_weight:g})"

    def unread(self) -> frozenset[str]:
        """The rank term's settings where it has no weight."""
        return frozenset() if self.rank_weight else frozenset({"rank_window", "margin"})
