"""The training loop: one optimizer step after another, from a checkpoint or from the start, to the last.

A step: this rank's micro-batches, masks drawn → what losses divide by, summed over all ranks → for each
micro-batch its losses, each followed by its backward pass → the update → log, validate, save. All of it is a
function of (settings, step): a run that was killed repeats from its last whole checkpoint bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trims_core._faults import fault_point
from trims_core.errors import InterruptedRunError
from trims_core.training.checkpoint import diverged
from trims_core.training.data import RunData
from trims_core.training.engine import Engine
from trims_core.training.learning_rate import learning_rate
from trims_core.training.method import Method
from trims_core.training.methods.terms import content_and_ends
from trims_core.training.reporting import Reporter
from trims_core.training.saving import Saver
from trims_core.training.sequences import Batch, Totals
from trims_core.training.spec import TrainSpec
from trims_core.training.student import TrainedStudent
from trims_core.training.world import World


@dataclass
class Loop:
    """One rank's training.

    Raises (from run): InterruptedRunError (stopped on request, after saving), TrainingDivergedError,
    DiskFullError.
    """

    spec: TrainSpec
    method: Method
    student: TrainedStudent
    engine: Engine
    data: RunData
    world: World
    reporter: Reporter
    saver: Saver
    stop_requested: Callable[[], bool]
    _parts: dict[str, float] = field(default_factory=dict)
    _measures: dict[str, float] = field(default_factory=dict)

    def run(self, n_done: int) -> None:
        """Train from step `n_done` on."""
        train = self.spec.train
        if n_done == 0:
            self.validate(0)
        for step in range(n_done, self.data.n_steps):
            loss, norm, lr, totals = self.step(step)
            done = step + 1
            is_last = done == self.data.n_steps
            fault_point("train.after_step")
            stops = not is_last and self.world.any(self.stop_requested())
            parts, measures = self.world.sum(self._parts), self.world.sum(self._measures)
            self.reporter.step(done, loss, parts, measures, lr, norm, totals)
            if done % train.eval_steps == 0 or (is_last and train.keep == "best"):
                self.validate(done)
            if done % train.save_steps == 0 or is_last or stops:
                self.reporter.say(done, f"saving a checkpoint at step {done}")
                self.saver.save(done)
                self.reporter.begin_step()
            if stops:
                raise InterruptedRunError(f"stopped at step {done} of {self.data.n_steps}, state saved")

    def step(self, step: int) -> tuple[float, float | None, float, Totals]:
        """One optimizer step: (loss, gradient norm or None, learning rate, what was counted)."""
        # 1. canvases, drawn on the CPU; what losses divide by is known before the first of them
        batches = [self.method.batch(sequences) for sequences in self.data.train(step)]
        totals = self._totals(batches)
        # 2. losses and gradients, one canvas's graph alive at a time
        n_losses, n_gone = self.method.n_losses * len(batches), 0
        loss, self._parts, self._measures = torch.zeros((), device=self.engine.device), {}, {}
        for batch in batches:
            for part in self.method.losses(self.student, batch.to(self.engine.device), totals):
                n_gone += 1
                self._check("loss", part.total.item(), step)
                self.engine.backward(part.total, last=n_gone == n_losses)
                loss += part.total.detach()
                _add(self._parts, part.parts)
                _add(self._measures, part.measures)
        # 3. the update
        lr = learning_rate(self.spec.train, step, self.data.n_steps)
        norm = self.engine.step(lr)
        if norm is not None:
            self._check("grad_norm", norm, step)
        return self.world.sum({"loss": loss.item()})["loss"], norm, lr, totals

    def validate(self, step: int) -> None:
        """Nats per token of the held-out examples' content, and of the ends behind it, under standard masks
        with fixed draws and hidden ends: the same for every method."""
        if not self.data.n_validation:
            return
        sums = dict.fromkeys(("loss", "ends", "n_content", "n_ends"), 0.0)
        with self.student.frozen():
            for batch, counts in self._held_out():
                view = batch.view
                loss, nll_M = self.student.cross_entropy(batch, view, view.weight_BL)
                ends = content_and_ends(batch, view, view.weight_BL, nll_M)["ends"]
                found = {"loss": loss.item(), "ends": ends.item(), **batch.counts}
                sums = {name: sums[name] + found[name] * counts for name in sums}
        total = self.world.sum(sums)
        self._check("validation loss", total["loss"], step - 1)
        content = (total["loss"] - total["ends"]) / total["n_content"]
        ends_loss = total["ends"] / total["n_ends"] if total["n_ends"] else None
        self.reporter.validated(step, content, ends_loss)
        self.saver.validated(step, content)

    def _held_out(self) -> Iterator[tuple[Batch, bool]]:
        """This rank's validation batches, and whether each counts: ranks without one of their own repeat the
        last, because under ZeRO-3 all must take part."""
        n_batches = self.data.n_validation
        for turn in range(0, n_batches, self.world.size):
            place = turn + self.world.rank
            yield self.data.validation(min(place, n_batches - 1)).to(self.engine.device), place < n_batches

    def _totals(self, batches: Sequence[Batch]) -> Totals:
        names = batches[0].counts
        sums = self.world.sum({name: float(sum(batch.counts[name] for batch in batches)) for name in names})
        train = self.spec.train
        return Totals(sums, train.batch_size, train.batch_size // train.micro_batch_size)

    def _check(self, what: str, value: float, step: int) -> None:
        """Raises: TrainingDivergedError where a value of a step is not finite."""
        if not math.isfinite(value):
            raise diverged(self.spec, what, value, step + 1)


def _add(sums: dict[str, float], found: Mapping[str, Tensor]) -> None:
    for name, value in found.items():
        sums[name] = sums.get(name, 0.0) + value.item()
