"""What a training method is: how micro-batches become canvases, and what is learned from them.

    for step:                             (loop.py)
        batches = [method.batch(sequences) …]        masks drawn, on the CPU
        totals  = sums of their counts               over all micro-batches and ranks: what losses divide by
        for batch in batches:
            for loss in method.losses(student, batch, totals):
                loss.total.backward()                one canvas's graph is alive at a time

Nothing else knows which methods there are: `train.variants.<name>.method` names a class of settings
(trims_core.variants), and that class names the module with the method.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from trims_core.config import TrainingConfig
from trims_core.training.sequences import Batch, Sequences, Totals
from trims_core.training.student import TrainedStudent
from trims_core.variants import EndsConfig, VariantConfig


@dataclass(frozen=True)
class Loss:
    """One graph to go back through.

    total: this canvas's part of the global batch's loss, float32 scalar. parts: what it is the sum of, by
    name, without gradient. measures: what else is told of the step, by name, without gradient: this canvas's
    part of a mean over the global batch.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    measures: Mapping[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """One way to train. Its draws depend on (seed, epoch, example id) alone."""

    n_losses: int
    """How many losses every batch gives. A batch without anything to learn from gives as many, all 0, because
    the ranks of a step go through the model together."""

    def batch(self, sequences: Sequences) -> Batch:
        """Canvases, which positions have a loss, and what is counted. On the CPU, without a model."""

    def losses(self, student: TrainedStudent, batch: Batch, totals: Totals) -> Iterator[Loss]:
        """The batch's part of the step's loss, canvas by canvas."""


@dataclass(frozen=True)
class Context:
    """What a method is made from, beside its own settings."""

    train: TrainingConfig
    ends: EndsConfig
    n_buckets: int
    mask_id: int
    family: str
    """The student's: `llada` or `dream`; some published recipes differ."""
    tokenizer: Callable[[], Any] = lambda: None
    """Loads the student's when asked for."""
    rollouts: Sequence[Path] = ()
    rollout_grades: Sequence[Path] = ()
    """Tables in the same order, where it is trained on rollouts."""
    pad_id: int = 0
    """What dead columns hold."""


def build_method(variant: VariantConfig, context: Context) -> Method:
    """The method that a variant names."""
    module = importlib.import_module(f"trims_core.training.methods.{variant.module}")
    method: Method = module.build(variant, context)
    return method
