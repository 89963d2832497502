"""CJ-GRPO (arXiv 2509.23924): reinforcement along the student's own decoding, in rounds."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trims_core.points import point_text
from trims_core.variants.rounds import RoundsVariant


class CjGrpoVariant(RoundsVariant):
    """Rounds of: answers of the student as it is, their rewards, some optimizer steps on all of them."""

    module: ClassVar[str] = "cj_grpo"
    reads_reference: ClassVar[bool] = True

    method: Literal["cj_grpo"] = "cj_grpo"
    pads: Literal["none"] = "none"
    """The whole canvas is the answer, its ends among them: nothing is padded."""
    advantage: Literal["centred", "standardised"] = "centred"
    """Reward − mean of the prompt's rewards, as released; or that / (their standard deviation + 1e-4), as in
    the paper."""
    reduction: Literal["sample_token", "batch_token"] = "sample_token"
    """Mean over a step's tokens, then over an answer's steps, then over answers (paper); or over all tokens
    that a step reveals in any answer, then over steps (released). They differ where answers reveal unequally
    many tokens at a step."""
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """How far from 1 the ratio of probabilities is followed (ε)."""
    kl: Annotated[float, Field(ge=0)] = 0.04
    """Weight of the divergence from the student without its adapter (β); 0: no such pass."""
    old_dropout: bool = False
    """As released: old probabilities are computed in training, with the weights that the round began with and
    with dropout, so that the ratio is not 1 at the first step; one more pass for each state."""
    compat: bool = False
    """As released: answers to prompts whose rewards are all equal are held to the reference too; otherwise
    they give no gradient at all."""

    @property
    def passes(self) -> int:
        """One for each state of the decoding, one more for the reference, and one for old probabilities."""
        return self.n_forwards * (1 + bool(self.kl) + self.old_dropout)

    def title(self) -> str:
        """With the decoder that is learned along."""
        return f"CJ-GRPO ({point_text(self.rollouts.rule, self.rollouts.threshold)})"

    @model_validator(mode="after")
    def _defined(self) -> Self:
        problems = []
        if self.certainty:
            problems.append(
                f"certainty {self.certainty:g} with method cj_grpo: its targets are the student's own tokens,"
                " all of them right; leave it out"
            )
        problems += [
            f"{name} with method cj_grpo: it has no ends behind an answer; leave it out"
            for name in ("end_weight", "hide_end_of_turn")
            if getattr(self, name) is not None
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self
