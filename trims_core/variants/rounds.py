"""What methods that are trained in rounds of rollouts, rewards and optimizer steps have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from trims_core.decoding_sections import RolloutsConfig, SamplingConfig
from trims_core.points import MEANINGS
from trims_core.variants.base import Role, VariantConfig


class RoundsVariant(VariantConfig):
    """A method that is trained on what its own student answers, round by round."""

    needs: ClassVar[Role] = "rounds"

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
    carry_optimizer: bool = True
    """Whether a round goes on with Adam's moments of the one before; two float32 numbers per trained weight
    are kept with each round for that."""

    @property
    def batch_size(self) -> int:
        """Sequences of an optimizer step: all rollouts of a round."""
        return self.prompts * self.rollouts.samples

    @property
    def n_forwards(self) -> int:
        """Of a rollout, at most."""
        return int(self.rollouts.threshold or self.rollouts.gen_length)

    def card_rows(self) -> dict[str, str]:
        """The rollouts setting by setting; not how many rounds there are, which a round does not know."""
        rows = super().card_rows()
        del rows["rollouts"], rows["rounds"]
        return {**rows, **{f"rollouts, {k}": str(v) for k, v in self.rollouts.result_fields().items()}}

    def unread(self) -> frozenset[str]:
        """How many rounds there are changes none of them."""
        return frozenset({"rounds"})

    @model_validator(mode="after")
    def _rollouts_fit(self) -> Self:
        problems = [*self._wrong_rollouts()]
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
