"""CJ-GRPO (arXiv 2509.23924): reinforcement along the student's own decoding, in rounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trims_core.decoding_sections import RolloutsConfig, SamplingConfig
from trims_core.points import MEANINGS, point_text
from trims_core.variants.base import Role, VariantConfig


class CjGrpoVariant(VariantConfig):
    """Rounds of: answers of the student as it is, their rewards, some optimizer steps on all of them."""

    module: ClassVar[str] = "cj_grpo"
    needs: ClassVar[Role] = "rounds"
    reads_reference: ClassVar[bool] = True

    method: Literal["cj_grpo"] = "cj_grpo"
    pads: Literal["none"] = "none"
    """The whole canvas is the answer, its ends among them: nothing is padded."""
    rounds: Annotated[int, Field(ge=1)] = 10
    """More of them go on from the last one that is there."""
    prompts: Annotated[int, Field(ge=1)] = 32
    """Of the corpus, per round: the next ones of a stream in which each comes once before any comes again."""
    rollouts: RolloutsConfig
    """Several samples to each prompt, in a number of forwards that is known before, at a temperature, and who
    rewards them: its own section, apart from the run's."""
    inner_steps: Annotated[int, Field(ge=1)] = 12
    """Optimizer steps of a round, each on all its rollouts (μ)."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Constant; default: train.lr."""
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
    carry_optimizer: bool = True
    """Whether a round goes on with Adam's moments of the one before; two float32 numbers per trained weight
    are kept with each round for that."""
    old_dropout: bool = False
    """As released: old probabilities are computed in training, with the weights that the round began with and
    with dropout, so that the ratio is not 1 at the first step; one more pass for each state."""
    compat: bool = False
    """As released: answers to prompts whose rewards are all equal are held to the reference too; otherwise
    they give no gradient at all."""

    @property
    def batch_size(self) -> int:
        """Sequences of an optimizer step: all rollouts of a round."""
        return self.prompts * self.rollouts.samples

    @property
    def n_forwards(self) -> int:
        """Of a rollout, at most."""
        return int(self.rollouts.threshold or self.rollouts.gen_length)

    @property
    def passes(self) -> int:
        """One for each state of the decoding, one more for the reference, and one for old probabilities."""
        return self.n_forwards * (1 + bool(self.kl) + self.old_dropout)

    def title(self) -> str:
        """With the decoder that is learned along."""
        return f"CJ-GRPO ({point_text(self.rollouts.rule, self.rollouts.threshold)})"

    def card_rows(self) -> dict[str, str]:
        """The rollouts setting by setting."""
        rows = super().card_rows()
        del rows["rollouts"]
        return {**rows, **{f"rollouts, {k}": str(v) for k, v in self.rollouts.result_fields().items()}}

    def own_code(self) -> dict[str, str]:
        """None in training: rewards are given before it."""
        return {}

    def unread(self) -> frozenset[str]:
        """How many rounds there are changes none of them."""
        return frozenset({"rounds"})

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
        problems += self._wrong_rollouts()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _wrong_rollouts(self) -> Iterator[str]:
        chosen = self.rollouts
        if chosen.samples < 2:
            yield f"rollouts.samples {chosen.samples}: answers to a prompt are compared; expected 2 or more"
        if chosen.threshold is not None and not MEANINGS[chosen.rule].counts_forwards:
            fixed = ", ".join(name for name, meaning in MEANINGS.items() if meaning.counts_forwards)
            yield (
                f"rollouts.rule {chosen.rule}: how many forwards it takes is not known before; expected"
                f" {fixed}, or no threshold (one token per forward)"
            )
        if chosen.cache != "none":
            yield f"rollouts.cache {chosen.cache}: states are learned from as they were seen; expected none"
        if chosen.retry_temperatures or chosen.limit is not None:
            yield "rollouts.retry_temperatures and rollouts.limit: rounds have none; leave them out"
        plain = SamplingConfig(temperature=chosen.sampling.temperature)
        if chosen.sampling != plain:
            yield (
                "rollouts.sampling: log-probabilities are those of raw logits, and noise is drawn by the"
                " training's seed; expected a temperature alone"
            )
