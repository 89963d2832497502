"""Decoding many prompts with one canvas loop.

The canvas is `gen_length` masked positions behind the prompt, in blocks worked from left to right. One step
is one forward over prompt and canvas of every sequence in the batch; the reveal rule then chooses among the
masked positions of each sequence's current block. Finished sequences leave the batch and waiting ones enter.

Bounded by construction: each forward reveals at least one position of every sequence that took part, so a
sequence takes part in at most `gen_length` forwards. A forward is never made for a full block, because the
current block is by definition the first with a masked position.

Covered: equal results alone and in a batch of unequal prompts, up to float32 rounding (a confidence within
about 1e-5 of the threshold or of another candidate may fall on the other side). Not covered: caches of keys
and values; every forward is over the whole sequence.

Shapes: B sequences in the batch, L prompt and canvas, G canvas positions, V vocabulary.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from trims_core.decoding.canvas import Canvas
from trims_core.decoding.proposals import propose
from trims_core.decoding.rules import RevealRule, most_confident
from trims_core.errors import ConfigError


class TokenIds(Protocol):
    """The ids decoding needs to know of a model family."""

    @property
    def mask_id(self) -> int:
        """[MASK]."""

    @property
    def end_ids(self) -> Collection[int]:
        """Every token that ends an answer."""


class Denoiser(Protocol):
    """A masked diffusion model: what `decode` needs of a student."""

    @property
    def model(self) -> torch.nn.Module:
        """The network; its first parameter tells the device."""

    @property
    def family(self) -> Any:
        """Has the attributes of TokenIds."""

    def forward(
        self,
        ids_BL: torch.Tensor,
        attention_mask_BL: torch.Tensor | None = None,
        position_ids_BL: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """logits [B, L, V], aligned to positions."""


@dataclass(frozen=True)
class DecodeSettings:
    """How a canvas is decoded; `batch_size` changes speed only."""

    rule: RevealRule
    gen_length: int
    block_length: int
    stop_at_end: bool = True
    """A sequence is finished once an end token and everything before it are revealed."""
    batch_size: int = 16

    def check(self) -> None:
        """Raises ConfigError for lengths that do not fit, or a rule that is not defined on them."""
        if self.gen_length < 1 or self.block_length < 1 or self.gen_length % self.block_length:
            raise ConfigError(
                f"gen_length {self.gen_length} with block_length {self.block_length}:"
                " expected positive lengths, gen_length a multiple of block_length"
            )
        if self.batch_size < 1:
            raise ConfigError(f"batch_size {self.batch_size}: expected at least 1")
        self.rule.check(self.gen_length, self.block_length)


@dataclass(frozen=True)
class Decoded:
    """One finished canvas and how it came about; the three lists have `gen_length` entries."""

    token_ids: list[int]
    """[MASK] where never revealed."""
    reveal_step: list[int]
    """0-based forward of this sequence at which the position was revealed; −1 never."""
    confidence: list[float | None]
    """Softmax probability at the reveal; None where never revealed."""
    n_forwards: int
    """Model calls the sequence took part in."""
    n_tokens: int
    """Tokens up to and including the first end token; the whole canvas where there is none."""
    finished: bool
    """An end token was reached, with everything before it revealed."""
    seconds: float
    """Its share of the decoding time: each forward's time divided by the sequences in it."""


def decode(
    student: Denoiser,
    prompts: Sequence[Sequence[int]],
    settings: DecodeSettings,
    on_step: Callable[[int, int], None] | None = None,
) -> list[Decoded]:
    """The decoded canvases, in the order of the prompts.

    Args:
        prompts: token ids, any lengths ≥ 1; longest ones are decoded first to keep padding short.
        on_step: called after every forward with the finished sequences and their total.

    Raises:
        ConfigError: settings that do not fit together, or an empty prompt.
        SweepError: the model's logits are not finite.
    """
    settings.check()
    for place, prompt in enumerate(prompts):
        if not len(prompt):
            raise ConfigError(f"prompt {place} is empty: expected at least one token")
    device = next(student.model.parameters()).device
    canvas = Canvas(settings.gen_length, settings.block_length, student.family.mask_id, device)
    waiting = deque(sorted(range(len(prompts)), key=lambda place: -len(prompts[place])))
    decoded: dict[int, Decoded] = {}
    with torch.inference_mode():
        while waiting or len(canvas):
            started = time.perf_counter()
            if waiting and len(canvas) < settings.batch_size:
                entering = [
                    waiting.popleft() for _ in range(min(len(waiting), settings.batch_size - len(canvas)))
                ]
                canvas.admit(entering, [prompts[place] for place in entering])
            _step(student, canvas, settings.rule)
            canvas.charge(time.perf_counter() - started)
            decoded.update(_collect(canvas, student.family.end_ids, settings.stop_at_end))
            if on_step is not None:
                on_step(len(decoded), len(prompts))
    return [decoded[place] for place in range(len(prompts))]


def _step(student: Denoiser, canvas: Canvas, rule: RevealRule) -> None:
    """One forward of the whole batch and what it reveals."""
    logits_BLV = student.forward(canvas.ids_BL, canvas.attention_mask_BL, canvas.position_ids_BL)
    candidate_BG, block_step_B = canvas.candidates()
    proposals = propose(
        logits_BLV[:, -canvas.gen_length :],
        candidate_BG,
        block_step_B,
        canvas.block_length,
        student.family.mask_id,
    )
    chosen_BG = rule.choose(proposals) & candidate_BG
    stuck_B = ~chosen_BG.any(dim=1)
    canvas.reveal(chosen_BG | (most_confident(proposals) & stuck_B[:, None]), proposals)


def _collect(canvas: Canvas, end_ids: Collection[int], stop_at_end: bool) -> dict[int, Decoded]:
    """The sequences that are finished now, taken out of the batch; keys are their prompt's place."""
    end_B = canvas.end_positions(end_ids)
    leaving_B = canvas.full()
    if stop_at_end:
        leaving_B = leaving_B | (end_B < canvas.gen_length)
    if not bool(leaving_B.any()):
        return {}
    ends = end_B[leaving_B].tolist()
    rows = canvas.release(leaving_B)
    tokens = rows.ids_BL[:, -canvas.gen_length :].tolist()
    steps = rows.reveal_step_BG.tolist()
    confidences = rows.confidence_BG.tolist()
    return {
        place: Decoded(
            token_ids=tokens[row],
            reveal_step=steps[row],
            confidence=[
                value if step >= 0 else None for value, step in zip(confidences[row], steps[row], strict=True)
            ],
            n_forwards=n_forwards,
            n_tokens=min(ends[row] + 1, canvas.gen_length),
            finished=ends[row] < canvas.gen_length,
            seconds=seconds,
        )
        for row, (place, n_forwards, seconds) in enumerate(
            zip(rows.sample_B.tolist(), rows.n_forwards_B.tolist(), rows.seconds_B.tolist(), strict=True)
        )
    }
