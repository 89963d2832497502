"""The sequences of a micro-batch before anything is hidden, and what a method makes of them.

Shape legend: B sequences of a micro-batch, L padded length, C tokens of one answer, P tokens of a reference's
prompt, T padded length of what a reference reads. A row of L: prompt, content (the answer and its end of
turn), supervised ends, dead columns (neither attended nor trained on).
Where masking.py says completion positions, here all L stand, prompts being neither content nor ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trims_core.block_causal import blocks_at
from trims_core.errors import TrainingError
from trims_core.keyed import draw_seed
from trims_core.masking import Draws, draw, end_probability, standard_t
from trims_core.training.examples import Examples
from trims_core.training.plan import MicroBatch
from trims_core.variants import EndsConfig


@dataclass(frozen=True)
class Sequences:
    """B examples, padded. What is random about them is asked for by purpose (`seeds`, `draws`)."""

    ids: tuple[str, ...]
    target_BL: Tensor
    """int64, the clean tokens."""
    prompt_BL: Tensor
    content_BL: Tensor
    end_BL: Tensor
    """bool; the three exclude each other, dead columns are none of them."""
    bucket_BL: Tensor
    """uint8, in the order of training; 1 outside the content, and everywhere where there are none."""
    reveal_BL: Tensor
    """int16, the step of the rollout at which a position was revealed; −1: never, or no rollout."""
    step: int
    """Optimizer steps before this one."""
    progress: float
    """Share of the run's steps before this one, in [0, 1)."""
    seeds: Callable[[str], list[int]]
    """A purpose → one generator seed for each sequence, by (seed, epoch, id)."""
    dropout_seeds: Callable[[int], int]
    """A canvas's number → the seed of its dropout, by (seed, step, micro-batch)."""
    strata_B: Tensor | None = None
    """Validation: sequence n of n_strata draws its noise from [n, n + 1) / n_strata."""
    n_strata: int = 1
    reference_BP: Tensor | None = None
    """int64, the prompts that a frozen reference reads in place of the student's, −1 behind each."""

    @property
    def attended_BL(self) -> Tensor:
        """bool; all but dead columns."""
        return self.prompt_BL | self.content_BL | self.end_BL

    @property
    def start_B(self) -> Tensor:
        """int64, first position of the answer."""
        return self.prompt_BL.sum(1)

    def blocks(self, length: int) -> Tensor:
        """int64 [B, L], the number of each position's block, from 0 where the answer begins; −1 before it."""
        return blocks_at(torch.arange(self.target_BL.shape[1]) - self.start_B[:, None], length)

    def draws(self, purpose: str) -> Draws:
        """Uniform numbers by sequence, and by completion position (0 in the prompt)."""
        n_positions = self.target_BL.shape[1]
        raw = draw(self.seeds(purpose), n_positions)
        token_BL = torch.zeros(self.target_BL.shape)
        for row, start in enumerate(self.start_B.tolist()):
            token_BL[row, start:] = raw.token_BC[row, : n_positions - start]
        noise_B = raw.noise_B if self.strata_B is None else (self.strata_B + raw.noise_B) / self.n_strata
        return Draws(raw.mixing_B, raw.cut_B, noise_B, raw.ends_B, token_BL)

    def masked_ends(self, ends: EndsConfig, epsilon: float) -> Tensor:
        """Which supervised ends are hidden, bool [B, L]: by a rule that is the same for every method."""
        if ends.pads == "hidden":
            return self.end_BL
        draws = self.draws("train")
        p_B = end_probability(draws.ends_B, standard_t(draws.noise_B, epsilon), ends)
        return self.end_BL & (draws.token_BC < p_B[:, None])

    def behind_reference(self, view: View, pad_id: int) -> Canvas:
        """A canvas as the reference reads it: all that stands behind a prompt, behind the reference's own.
        Its scored positions are the view's, in the same order.

        Args:
            pad_id: what dead columns hold.
        """
        if self.reference_BP is None:
            raise TrainingError("the reference reads prompts of its own, and the examples have none")
        n_prompt_B1 = (self.reference_BP >= 0).sum(1, keepdim=True)
        n_live_B1 = n_prompt_B1 + self.attended_BL.sum(1, keepdim=True) - self.start_B[:, None]
        place_T = torch.arange(int(n_live_B1.max()))
        behind_BT = (place_T >= n_prompt_B1) & (place_T < n_live_B1)
        column_BT = torch.where(behind_BT, place_T - n_prompt_B1 + self.start_B[:, None], 0)
        prompt_BT = self.reference_BP.gather(
            1, place_T.clamp(max=self.reference_BP.shape[1] - 1).expand_as(behind_BT)
        )
        prompt_BT = torch.where(place_T < n_prompt_B1, prompt_BT, pad_id)
        noisy_BT = torch.where(behind_BT, view.noisy_BL.gather(1, column_BT), prompt_BT)
        scored_BT = behind_BT & view.scored_BL.gather(1, column_BT)
        attended_BT = place_T < n_live_B1
        return Canvas(noisy_BT, scored_BT, None if bool(attended_BT.all()) else attended_BT.long())

    def batch(self, views: Sequence[View], counts: Mapping[str, float], **extras: Tensor) -> Batch:
        """These sequences with a method's canvases, its own counts and tensors."""
        attended_BL = self.attended_BL
        scored_BL = views[0].scored_BL if views else torch.zeros_like(self.content_BL)
        common = {
            "n_content": int(self.content_BL.sum()),
            "n_masked_content": int((self.content_BL & scored_BL).sum()),
            "n_ends": int(self.end_BL.sum()),
            "n_columns": attended_BL.numel(),
            "n_dead": int((~attended_BL).sum()),
        }
        return Batch(
            target_BL=self.target_BL,
            content_BL=self.content_BL,
            end_BL=self.end_BL,
            attention_BL=None if bool(attended_BL.all()) else attended_BL.long(),
            views=tuple(views),
            counts={**common, **counts},
            progress=self.progress,
            ids=self.ids,
            extras=extras,
        )


@dataclass(frozen=True)
class Canvas:
    """What a pass reads, and where.

    noisy_BL: int64. scored_BL: bool. attention_BL: int64, or None where all columns are attended.
    """

    noisy_BL: Tensor
    scored_BL: Tensor
    attention_BL: Tensor | None

    def to(self, device: torch.device | str) -> Canvas:
        """The same on a device."""
        return replace(self, **_moved(self, device))


@dataclass(frozen=True)
class View:
    """One canvas on its way to the model.

    noisy_BL: int64, [MASK] put in. scored_BL: bool, masked positions that have a loss. weight_BL: float32,
    the weights of their cross-entropies before normalisation, 0 elsewhere. dropout_seed: seeds its dropout,
    so that a resumed or differently split run drops the same units. aligned: whether a token's prediction is
    read where its family decodes it from; a published program reads it at the token itself. reference: what a
    frozen reference reads instead, its scored positions in the same order; None: this canvas. block_BL:
    int64, each position's block where attention is block-causal (block_causal.py); None: all see all.
    """

    noisy_BL: Tensor
    scored_BL: Tensor
    weight_BL: Tensor
    dropout_seed: int
    aligned: bool = True
    reference: Canvas | None = None
    block_BL: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """A micro-batch as a method has made it.

    attention_BL: int64, or None where no column is dead. counts: what is summed over the step's micro-batches
    of all ranks before the first loss (`Totals`). extras: tensors of the method's own.
    """

    target_BL: Tensor
    content_BL: Tensor
    end_BL: Tensor
    attention_BL: Tensor | None
    views: tuple[View, ...]
    counts: Mapping[str, float]
    progress: float
    ids: tuple[str, ...]
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def view(self) -> View:
        """The only canvas, or the first."""
        return self.views[0]

    @property
    def n_supervised_B(self) -> Tensor:
        """int64, content and ends of each sequence."""
        return (self.content_BL | self.end_BL).sum(1)

    def to(self, device: torch.device | str) -> Batch:
        """The same with its tensors on a device."""
        views = tuple(replace(view, **_moved(view, device)) for view in self.views)
        extras = {name: tensor.to(device) for name, tensor in self.extras.items()}
        return replace(self, views=views, extras=extras, **_moved(self, device))


@dataclass(frozen=True)
class Totals:
    """What a loss is divided by: sums over the whole step, all micro-batches and ranks."""

    counts: Mapping[str, float]
    n_sequences: int
    n_micro_batches: int

    def __getitem__(self, name: str) -> float:
        return self.counts[name]

    @property
    def n_supervised(self) -> float:
        """Content and ends."""
        return self["n_content"] + self["n_ends"]


def gather(
    examples: Examples,
    micro_batch: MicroBatch,
    *,
    pad_id: int,
    seed: int,
    hide_end_of_turn: bool,
    n_steps: int = 1,
    strata: Mapping[int, int] | None = None,
) -> Sequences:
    """The sequences of a micro-batch.

    Args:
        strata: validation: example → its stratum. Their draws are the same for every seed of a run.
    """
    rows = [entry.example for entry in micro_batch.entries]
    length_B1 = torch.from_numpy(examples.lengths[rows])[:, None]
    prompt_B1 = torch.from_numpy(examples.prompt_lengths[rows])[:, None]
    n_ends_B1 = torch.tensor([[entry.n_ends] for entry in micro_batch.entries])
    shape = (len(rows), micro_batch.pad_to)
    target_BL = torch.full(shape, pad_id, dtype=torch.long)
    bucket_BL = torch.ones(shape, dtype=torch.uint8)
    reveal_BL = torch.full(shape, -1, dtype=torch.int16)
    for row, example in enumerate(rows):
        start, end = int(prompt_B1[row]), int(length_B1[row])
        # copies: what is mapped is read-only
        target_BL[row, :end] = torch.from_numpy(examples.input_ids[example].astype(np.int64))
        if examples.buckets is not None:
            bucket_BL[row, start:end] = torch.from_numpy(examples.buckets[example].copy())
        if examples.reveal_steps is not None:
            reveal_BL[row, start:end] = torch.from_numpy(examples.reveal_steps[example].copy())
    place_L = torch.arange(micro_batch.pad_to)
    content_end_B1 = length_B1
    if hide_end_of_turn:
        content_end_B1 = length_B1 - torch.from_numpy(examples.ends_in_turn[rows]).long()[:, None]
    prompt_BL = place_L < prompt_B1
    references = None if examples.references is None else [examples.references[row] for row in rows]
    ids, entries = tuple(examples.ids[row] for row in rows), micro_batch.entries
    keyed = 0 if strata else seed
    return Sequences(
        ids=ids,
        target_BL=target_BL,
        prompt_BL=prompt_BL,
        content_BL=~prompt_BL & (place_L < content_end_B1),
        end_BL=~prompt_BL & (place_L >= content_end_B1) & (place_L < length_B1 + n_ends_B1),
        bucket_BL=bucket_BL,
        reveal_BL=reveal_BL,
        step=micro_batch.step,
        progress=micro_batch.step / n_steps,
        seeds=lambda purpose: [
            draw_seed(keyed, entry.epoch, name, purpose) for entry, name in zip(entries, ids, strict=True)
        ],
        dropout_seeds=lambda number: draw_seed(
            seed, micro_batch.step, str(micro_batch.index), f"dropout {number}" if number else "dropout"
        ),
        strata_B=torch.tensor([strata[row] for row in rows]) if strata else None,
        n_strata=len(strata) if strata else 1,
        reference_BP=None if references is None else _padded(references),
    )


def _padded(rows: Sequence[npt.NDArray[np.int32]]) -> Tensor:
    """int64, −1 behind each row."""
    tensors = [torch.from_numpy(row.astype(np.int64)) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=-1)


def _moved(item: Any, device: torch.device | str) -> dict[str, Any]:
    values = {one.name: getattr(item, one.name) for one in fields(item)}
    return {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor | Canvas)}
