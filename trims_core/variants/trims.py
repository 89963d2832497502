"""TRIMS and standard masked diffusion fine-tuning, which is TRIMS with ρ 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from trims_core.sections import Fraction
from trims_core.variants.base import Order, VariantConfig

LossWeight = Literal[
    "inverse_t", "inverse_t_all", "uniform", "inverse_p", "balanced", "bucket_profile", "cart"
]
_TRAJECTORY: Final = frozenset({"order", "rho", "p_low", "p_high"})
_READ_WITH: Final[Mapping[str, frozenset[str]]] = {
    "cart": frozenset({"cart_p"}),
    "inverse_p": frozenset({"inverse_p_clip"}),
    "bucket_profile": _TRAJECTORY,
}
"""Settings that only some loss weights read."""


class TrimsVariant(VariantConfig):
    """Masks drawn from the buckets of a teacher."""

    module: ClassVar[str] = "trims"
    reads_loss_norm: ClassVar[bool] = True

    method: Literal["trims"] = "trims"
    order: Order = "descending"
    """descending: hard tokens visible first. two_sided: so only while most is masked, the other way round
    while little is. Controls: ascending, random; shifted (bucket ids moved by 10 tokens) and permuted (inside
    each example) keep every example's buckets and detach them from its tokens."""
    rho: Fraction = 0.5
    """Probability that a sequence takes the trajectory mask instead of the standard one."""
    p_low: Fraction = 0.05
    p_high: Fraction = 0.95
    loss_weight: LossWeight = "inverse_t"
    """inverse_t: 1/t of the sequence's answer; easy tokens weigh more than hard ones in trajectories.
    balanced: every bucket weighs the same on average. inverse_p: 1/p of the token. Controls: inverse_t_all (t
    with the ends counted in), uniform, bucket_profile (standard masks with the weights that rho, p_low and
    p_high give each bucket). cart: by how much visible context is near (Dream's recipe)."""
    inverse_p_clip: Annotated[float, Field(ge=1)] = 5.0
    """Largest weight of a token; read with loss_weight: inverse_p only."""
    cart_p: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Decay per position of what counts as near; read with loss_weight: cart only."""
    masks: str | None = None
    """In place of the standard mask, `package.module:function` of your own: (ids_C, tokenizer, generator)
    gives which tokens of an answer are masked (bool), and the probabilities that weights go by (float32)."""

    @property
    def token_order(self) -> Order:
        """Its own."""
        return self.order

    @property
    def trajectory_rho(self) -> float:
        """The share of sequences that take a trajectory mask."""
        return self.rho

    @property
    def reads_buckets(self) -> bool:
        """Always: they are the trajectory."""
        return True

    def title(self) -> str:
        """With order and mixing."""
        return f"TRIMS (trajectory-aware masks, {self.order} order, mixing ρ = {self.rho:g})"

    def own_code(self) -> dict[str, str]:
        """Masks."""
        return {} if self.masks is None else {"masks": self.masks}

    def card_rows(self) -> dict[str, str]:
        """In the paper's words."""
        trajectory = {
            "order": self.order,
            "ρ": f"{self.rho:g}",
            "p_low, p_high": f"{self.p_low:g}, {self.p_high:g}",
        }
        of_weight = {
            "inverse_p": f" (at most {self.inverse_p_clip:g})",
            "cart": f" (p = {self.cart_p:g})",
            "bucket_profile": f" (ρ {self.rho:g}, p {self.p_low:g}, {self.p_high:g}, {self.order})",
        }
        rows: dict[str, str] = {"method": self.method}
        if self.masks:
            rows["masks of the user's own"] = self.masks
        if self.trajectory_rho:
            rows |= trajectory
        if self.certainty:
            rows["certainty, ramp"] = f"{self.certainty:g}, {self.certainty_ramp:g}"
        return rows | {"loss weight": self.loss_weight + of_weight.get(self.loss_weight, "")}

    def unread(self) -> frozenset[str]:
        """Settings of loss weights that are not chosen."""
        others = frozenset().union(*_READ_WITH.values()) - _TRAJECTORY
        return others - _READ_WITH.get(self.loss_weight, frozenset())

    @model_validator(mode="after")
    def _profile_once(self) -> Self:
        if self.loss_weight == "bucket_profile" and self.trajectory_rho:
            raise ValueError(
                "loss_weight bucket_profile with method trims: trajectory masks have that profile by"
                " themselves; use method: standard, or loss_weight: inverse_t"
            )
        return self


class StandardVariant(TrimsVariant):
    """Masks that know nothing of buckets: one masking probability for all tokens of an answer."""

    baseline: ClassVar[bool] = True

    method: Literal["standard"] = "standard"  # type: ignore[assignment]

    @property
    def trajectory_rho(self) -> float:
        """0: `rho` is read with loss_weight: bucket_profile only, as the weights' own."""
        return 0.0

    @property
    def reads_buckets(self) -> bool:
        """Only as weights."""
        return self.loss_weight in ("balanced", "bucket_profile")

    def title(self) -> str:
        """Its field's name."""
        return "standard masked diffusion fine-tuning"

    def unread(self) -> frozenset[str]:
        """Trajectories too, unless their weights are borrowed."""
        return super().unread() | (_TRAJECTORY - _READ_WITH.get(self.loss_weight, frozenset()))
