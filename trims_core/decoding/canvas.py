"""The sequences being decoded together: prompts padded on the left, so that all canvases share their columns.

Shapes: B sequences, P longest prompt, G canvas positions, L = P + G.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields

import torch

from trims_core.decoding.proposals import Proposals


@dataclass
class _Rows:
    """Everything kept per sequence, one row each; every field is a tensor with B rows."""

    sample_B: torch.Tensor
    prompt_length_B: torch.Tensor
    ids_BL: torch.Tensor
    masked_BG: torch.Tensor
    reveal_step_BG: torch.Tensor
    confidence_BG: torch.Tensor
    n_forwards_B: torch.Tensor
    block_B: torch.Tensor
    block_step_B: torch.Tensor
    seconds_B: torch.Tensor

    def pick(self, rows: torch.Tensor) -> _Rows:
        """The given rows, in the given order."""
        return _Rows(*(getattr(self, item.name)[rows] for item in fields(self)))

    def join(self, other: _Rows) -> _Rows:
        """These rows, then the other's; both must have the same width."""
        return _Rows(
            *(torch.cat((getattr(self, item.name), getattr(other, item.name))) for item in fields(self))
        )


class Canvas:
    """A batch of canvases: rows enter with a prompt and leave finished; it knows blocks, not reveal rules."""

    def __init__(self, gen_length: int, block_length: int, mask_id: int, device: torch.device) -> None:
        self.gen_length = gen_length
        self.block_length = block_length
        self._mask_id = mask_id
        self._device = device
        self._rows = self._new_rows([], [])
        self.ids_BL = self._rows.ids_BL
        """Padding, prompt and canvas of every sequence: what a forward is fed."""
        self.attention_mask_BL: torch.Tensor | None = None
        """bool, False at padding; None where no sequence is padded."""
        self.position_ids_BL: torch.Tensor | None = None

    def __len__(self) -> int:
        return int(self._rows.sample_B.shape[0])

    def admit(self, samples: Sequence[int], prompts: Sequence[Sequence[int]]) -> None:
        """Add fully masked canvases behind these prompts; `samples` are the caller's numbers for them."""
        old, new = self._rows, self._new_rows(samples, prompts)
        longest = int(torch.cat((old.prompt_length_B, new.prompt_length_B)).max())
        self._rows = self._fit(old, longest).join(self._fit(new, longest))
        self._place()

    def candidates(self) -> tuple[torch.Tensor, torch.Tensor]:
        """bool [B, G]: masked positions before the end of each sequence's current block, which is the
        first block with a masked position; and int64 [B]: forwards already spent on that block."""
        rows = self._rows
        block_B = rows.masked_BG.int().argmax(dim=1) // self.block_length
        rows.block_step_B = torch.where(block_B == rows.block_B, rows.block_step_B, 0)
        rows.block_B = block_B
        column_G = torch.arange(self.gen_length, device=self._device)
        return rows.masked_BG & (column_G < (block_B[:, None] + 1) * self.block_length), rows.block_step_B

    def reveal(self, chosen_BG: torch.Tensor, proposals: Proposals) -> None:
        """Put the proposed tokens at the chosen positions and count the forward."""
        rows = self._rows
        canvas_BG = rows.ids_BL[:, -self.gen_length :]
        canvas_BG.copy_(torch.where(chosen_BG, proposals.token_BG, canvas_BG))
        rows.masked_BG = rows.masked_BG & ~chosen_BG
        step_BG = rows.n_forwards_B[:, None].expand_as(chosen_BG)
        rows.reveal_step_BG = torch.where(chosen_BG, step_BG, rows.reveal_step_BG)
        rows.confidence_BG = torch.where(chosen_BG, proposals.confidence_BG, rows.confidence_BG)
        rows.n_forwards_B = rows.n_forwards_B + 1
        rows.block_step_B = rows.block_step_B + 1

    def charge(self, seconds: float) -> None:
        """Divide the time of one forward equally over the sequences that took part."""
        self._rows.seconds_B += seconds / len(self)

    def end_positions(self, end_ids: Collection[int]) -> torch.Tensor:
        """int64 [B]: where each sequence's first end token stands with everything before it revealed;
        G where there is none yet."""
        rows = self._rows
        is_end_BG = torch.isin(
            rows.ids_BL[:, -self.gen_length :], torch.tensor(sorted(end_ids), device=self._device)
        )
        first_end_B = _first(is_end_BG & ~rows.masked_BG, self.gen_length)
        first_masked_B = _first(rows.masked_BG, self.gen_length)
        return torch.where(first_end_B < first_masked_B, first_end_B, self.gen_length)

    def full(self) -> torch.Tensor:
        """bool [B]: no masked position is left."""
        return ~self._rows.masked_BG.any(dim=1)

    def release(self, leaving_B: torch.Tensor) -> _Rows:
        """Take these sequences out of the batch and give them back."""
        gone = self._rows.pick(leaving_B.nonzero().flatten())
        self._rows = self._rows.pick((~leaving_B).nonzero().flatten())
        if len(self):
            self._rows = self._fit(self._rows, int(self._rows.prompt_length_B.max()))
        self._place()
        return gone

    def _new_rows(self, samples: Sequence[int], prompts: Sequence[Sequence[int]]) -> _Rows:
        n, gen = len(prompts), self.gen_length
        lengths = [len(prompt) for prompt in prompts]
        longest = max(lengths, default=0)
        padded = [[0] * (longest - len(prompt)) + [*prompt] + [self._mask_id] * gen for prompt in prompts]
        device = self._device
        return _Rows(
            sample_B=torch.tensor(samples, dtype=torch.int64, device=device),
            prompt_length_B=torch.tensor(lengths, dtype=torch.int64, device=device),
            ids_BL=torch.tensor(padded, dtype=torch.int64, device=device).reshape(n, longest + gen),
            masked_BG=torch.ones(n, gen, dtype=torch.bool, device=device),
            reveal_step_BG=torch.full((n, gen), -1, dtype=torch.int64, device=device),
            confidence_BG=torch.full((n, gen), torch.nan, dtype=torch.float32, device=device),
            n_forwards_B=torch.zeros(n, dtype=torch.int64, device=device),
            block_B=torch.zeros(n, dtype=torch.int64, device=device),
            block_step_B=torch.zeros(n, dtype=torch.int64, device=device),
            seconds_B=torch.zeros(n, dtype=torch.float64, device=device),
        )

    def _fit(self, rows: _Rows, longest: int) -> _Rows:
        """The same rows with their prompts padded or cut (of padding only) to `longest` columns."""
        missing = longest + self.gen_length - rows.ids_BL.shape[1]
        ids_BL = (
            rows.ids_BL[:, -missing:] if missing < 0 else torch.nn.functional.pad(rows.ids_BL, (missing, 0))
        )
        rows.ids_BL = ids_BL.contiguous()
        return rows

    def _place(self) -> None:
        """Attention mask and positions of the present rows: both None where nothing is padded."""
        rows = self._rows
        self.ids_BL = rows.ids_BL
        n_pad_B = rows.ids_BL.shape[1] - self.gen_length - rows.prompt_length_B
        self.attention_mask_BL = self.position_ids_BL = None
        if bool((n_pad_B > 0).any()):
            column_L = torch.arange(rows.ids_BL.shape[1], device=self._device)
            self.attention_mask_BL = column_L >= n_pad_B[:, None]
            self.position_ids_BL = (column_L - n_pad_B[:, None]).clamp(min=0)


def _first(marks_BG: torch.Tensor, otherwise: int) -> torch.Tensor:
    """int64 [B]: the first marked column, `otherwise` in a row without any."""
    return torch.where(marks_BG.any(dim=1), marks_BG.int().argmax(dim=1), otherwise)
