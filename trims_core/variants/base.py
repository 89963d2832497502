"""What the variants of all methods have in common. Imports no torch: keys are computed on every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from trims_core.privileged import Privilege
from trims_core.sections import LATER, Fraction, Section

Pads = Literal["hidden", "last", "standard", "none"]
Order = Literal["descending", "ascending", "random", "two_sided", "shifted", "permuted"]
Answers = Literal["right", "all"]
"""Which rollouts are trained on: those graded right (of several to a prompt all such), or all."""
Role = Literal["examples", "rollouts", "rounds"]
"""What a method is trained on. examples: the corpus' own answers, with buckets where the run has a teacher.
rollouts: the untuned student's own answers with their reveal steps, and their grades. rounds: those of the
student as it is in training, round by round."""


class EndsConfig(Section):
    """How the supervised ends behind a variant's answers are masked and weighed: `TrainConfig.ends_of`.

    What `pads` does not read is at its default.
    """

    pads: Pads
    rho: float = 0.0
    p_high: float = 0.0
    tokens: int
    """At most so many behind an answer. Validation has them whatever `pads` is."""
    weight: float = 1.0
    hide_end_of_turn: bool = False


class VariantConfig(Section):
    """One way to train; several variants in a run give several models. Every method has its own class."""

    module: ClassVar[str]
    """Of trims_core.training.methods: where the method is."""
    needs: ClassVar[Role] = "examples"
    reads_loss_norm: ClassVar[bool] = False
    """Whether train.loss_norm is this method's; others divide as their papers do, over the global batch."""
    reads_reference: ClassVar[bool] = False
    """Whether it asks the student without its adapter, which takes an adapter."""
    baseline: ClassVar[bool] = False
    """Whether other methods are compared with it where report.compare does not say."""

    method: str
    pads: Pads | None = None
    """Another value than train.pads, to study what ends do."""
    end_weight: Annotated[float, Field(ge=0)] | None = None
    """Another value than train.end_weight."""
    hide_end_of_turn: bool | None = None
    """Another value than train.hide_end_of_turn."""
    certainty: Annotated[float, Field(ge=0), LATER] = 0.0
    """Weight of dParallel's certainty term, added to any method's loss: the mean entropy, at temperature 0.5,
    of predictions of masked tokens that are right already."""
    certainty_ramp: Annotated[Fraction, LATER] = 0.2
    """Share of the run in which that weight grows linearly from 0; read with certainty above 0 only."""

    @property
    def passes(self) -> int:
        """Forwards through the student in training for each sequence of a step, without gradient or with."""
        return 1

    @property
    def token_order(self) -> Order:
        """The order in which training shows an example's buckets."""
        return "descending"

    @property
    def reads_buckets(self) -> bool:
        """Whether it cannot be trained without a teacher's buckets."""
        return False

    def privileges(self) -> Mapping[str, Privilege]:
        """Prompts beside the plain ones that it is trained with: their role, and what they show."""
        return {}

    @property
    def block_causal_length(self) -> int | None:
        """Positions of a block where the student is trained to attend block by block; None: all see all."""
        return None

    def own_code(self) -> dict[str, str]:
        """Fields that name code of the user's, `package.module:function`, and what they name."""
        return {}

    def card_rows(self) -> dict[str, str]:
        """What a model card tells of it, name → value."""
        read = self.as_read().result_fields()
        return {name: str(value) for name, value in read.items() if value is not None}

    def title(self) -> str:
        """For people: the method's name and what distinguishes this variant of it."""
        raise NotImplementedError

    def as_read(self) -> Self:
        """The variant with defaults where neither its method nor its other settings look: made for keys.

        Its ends are left out: `TrainConfig.ends_of` has them.
        """
        unread = {"pads", "end_weight", "hide_end_of_turn", *self.unread()}
        if not self.certainty:
            unread.add("certainty_ramp")
        kept = {name: getattr(self, name) for name in type(self).model_fields if name not in unread}
        return type(self)(**kept)

    def unread(self) -> frozenset[str]:
        """Names of this method's fields that its other settings leave without effect."""
        return frozenset()


class RolloutVariant(VariantConfig):
    """A method that is trained on the student's own answers."""

    needs: ClassVar[Role] = "rollouts"

    answers: Answers = "right"
