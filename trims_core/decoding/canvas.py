"""The sequences being decoded together: prompts padded on the left, so that all canvases share their columns.

Shapes: B sequences, P longest prompt, G canvas positions, L = P + G.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields

import torch

from trims_core.decoding.caches import KeyValueStore
from trims_core.decoding.proposals import Progress, Proposals


@dataclass
class _Rows:
    """Everything kept per sequence, one row each; every field is a tensor with B rows."""

    sample_B: torch.Tensor
    prompt_length_B: torch.Tensor
    ids_BL: torch.Tensor
    masked_BG: torch.Tensor
    reveal_step_BG: torch.Tensor
    confidence_BG: torch.Tensor
    entropy_BG: torch.Tensor
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


@dataclass(frozen=True)
class Decoded:
    """One finished canvas and how it came about; the four lists have `gen_length` entries."""

    token_ids: list[int]
    """[MASK] where never revealed."""
    reveal_step: list[int]
    """0-based forward of this sequence at which the position was revealed; −1 never."""
    confidence: list[float | None]
    """Softmax probability at the reveal; None where never revealed."""
    entropy: list[float | None]
    """Entropy of the prediction at the reveal, nats; None where never revealed."""
    n_forwards: int
    """Model calls the sequence took part in."""
    n_tokens: int
    """Tokens up to and including the first end token, or up to the one that completes a stop string; the
    whole canvas where there is neither."""
    finished: bool
    """An end token or a stop string was reached, with everything before it revealed."""
    seconds: float
    """Its share of the decoding time: each forward's time divided by the sequences in it."""


class Canvas:
    """A batch of canvases: rows enter with a prompt and leave finished; it knows blocks, not reveal rules."""

    def __init__(
        self,
        block_lengths: Sequence[int],
        mask_id: int,
        device: torch.device,
        store: KeyValueStore | None,
        *,
        cached: bool,
    ) -> None:
        self.gen_length = sum(block_lengths)
        self.block_lengths = tuple(block_lengths)
        self.store = store
        """Keys and values of the present rows; kept in step with them."""
        self._cached = cached
        ends = torch.tensor(self.block_lengths, device=device).cumsum(0)
        self._ranges_K2 = torch.stack((ends - torch.tensor(self.block_lengths, device=device), ends), dim=1)
        self._block_G = torch.repeat_interleave(
            torch.arange(len(self.block_lengths), device=device), torch.tensor(self.block_lengths).to(device)
        )
        self._mask_id = mask_id
        self._device = device
        self._rows = self._new_rows([], [])
        self.ids_BL = self._rows.ids_BL
        """Padding, prompt and canvas of every sequence."""
        self.n_pad_B = self._rows.prompt_length_B
        """Columns of padding before each prompt."""
        self.attention_mask_BL: torch.Tensor | None = None
        """bool, False at padding; None where no sequence is padded."""

    def __len__(self) -> int:
        return int(self._rows.sample_B.shape[0])

    @property
    def samples(self) -> list[int]:
        """The caller's numbers of the present sequences."""
        return [int(sample) for sample in self._rows.sample_B.tolist()]

    @property
    def steps(self) -> list[int]:
        """Forwards that the present sequences have taken part in."""
        return [int(step) for step in self._rows.n_forwards_B.tolist()]

    @property
    def prompt_width(self) -> int:
        """Columns before the canvas."""
        return self.ids_BL.shape[1] - self.gen_length

    def admit(self, samples: Sequence[int], prompts: Sequence[Sequence[int]]) -> None:
        """Add fully masked canvases behind these prompts; `samples` are the caller's numbers for them.

        With a store no prompt may be longer than the longest present one (its columns would move).
        """
        old, new = self._rows, self._new_rows(samples, prompts)
        longest = int(torch.cat((old.prompt_length_B, new.prompt_length_B)).max())
        if self.store is not None:
            if not len(self):
                self.store.clear()
            self.store.grow(len(prompts))
        self._rows = self._fit(old, longest).join(self._fit(new, longest))
        self._place()

    def progress(self) -> Progress:
        """Where every sequence stands; a current block entered just now starts with step 0."""
        rows = self._rows
        block_B, last_block_B = self._block_G[rows.masked_BG.int().argmax(dim=1)], rows.block_B
        rows.block_step_B = torch.where(block_B == last_block_B, rows.block_step_B, 0)
        rows.block_B = block_B
        return Progress(
            masked_BG=rows.masked_BG,
            block_range_B2=self._ranges_K2[block_B],
            block_step_B=rows.block_step_B,
            step_B=rows.n_forwards_B,
            last_block_B=last_block_B,
            block_lengths=self.block_lengths,
            cached=self._cached,
        )

    def reveal(self, chosen_BG: torch.Tensor, proposals: Proposals) -> None:
        """Put the proposed tokens at the chosen positions and count the forward."""
        rows = self._rows
        canvas_BG = self.canvases()
        canvas_BG.copy_(torch.where(chosen_BG, proposals.token_BG, canvas_BG))
        rows.masked_BG = rows.masked_BG & ~chosen_BG
        step_BG = rows.n_forwards_B[:, None].expand_as(chosen_BG)
        rows.reveal_step_BG = torch.where(chosen_BG, step_BG, rows.reveal_step_BG)
        confidence_BG = proposals.confidence_BG.float()
        rows.confidence_BG = torch.where(chosen_BG, confidence_BG, rows.confidence_BG)
        rows.entropy_BG = torch.where(chosen_BG, proposals.entropy_BG, rows.entropy_BG)
        rows.n_forwards_B = rows.n_forwards_B + 1
        rows.block_step_B = rows.block_step_B + 1

    def put(self, canvas_BG: torch.Tensor) -> None:
        """Take these tokens for the canvases, [MASK] where hidden; no forward is counted."""
        self.canvases().copy_(canvas_BG)
        self._rows.masked_BG = canvas_BG.to(self._device) == self._mask_id

    def canvases(self) -> torch.Tensor:
        """int64 [B, G]: the canvases as they are now."""
        return self._rows.ids_BL[:, -self.gen_length :]

    def first_masked(self) -> torch.Tensor:
        """int64 [B]: how many positions are revealed before the first masked one."""
        return _first(self._rows.masked_BG, self.gen_length)

    def charge(self, seconds: float) -> None:
        """Divide the time of one forward equally over the sequences that took part."""
        self._rows.seconds_B += seconds / len(self)

    def end_positions(self, end_ids: Collection[int]) -> torch.Tensor:
        """int64 [B]: where each sequence's first end token stands with everything before it revealed;
        G where there is none yet."""
        is_end_BG = torch.isin(self.canvases(), torch.tensor(sorted(end_ids), device=self._device))
        first_end_B = _first(is_end_BG & ~self._rows.masked_BG, self.gen_length)
        return torch.where(first_end_B < self.first_masked(), first_end_B, self.gen_length)

    def full(self) -> torch.Tensor:
        """bool [B]: no masked position is left."""
        return ~self._rows.masked_BG.any(dim=1)

    def release(self, leaving_B: torch.Tensor, end_B: torch.Tensor) -> dict[int, Decoded]:
        """Take these sequences out of the batch and give them back, by the caller's numbers.

        Args:
            end_B: the token that ends each sequence; G where none does.
        """
        gone = self._rows.pick(leaving_B.nonzero().flatten())
        staying = (~leaving_B).nonzero().flatten()
        before = self.ids_BL.shape[1]
        self._rows = self._rows.pick(staying)
        if len(self):
            self._rows = self._fit(self._rows, int(self._rows.prompt_length_B.max()))
        if self.store is not None:
            self.store.keep(staying, before - self._rows.ids_BL.shape[1])
        self._place()
        ends = end_B[leaving_B].tolist()
        decoded = zip(
            gone.ids_BL[:, -self.gen_length :].tolist(),
            gone.reveal_step_BG.tolist(),
            _known(gone.confidence_BG, gone.reveal_step_BG),
            _known(gone.entropy_BG, gone.reveal_step_BG),
            gone.n_forwards_B.tolist(),
            [min(end + 1, self.gen_length) for end in ends],
            [end < self.gen_length for end in ends],
            gone.seconds_B.tolist(),
            strict=True,
        )
        return dict(zip(gone.sample_B.tolist(), (Decoded(*one) for one in decoded), strict=True))

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
            entropy_BG=torch.full((n, gen), torch.nan, dtype=torch.float32, device=device),
            n_forwards_B=torch.zeros(n, dtype=torch.int64, device=device),
            block_B=torch.full((n,), -1, dtype=torch.int64, device=device),
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
        """Padding and attention mask of the present rows; the mask is None where nothing is padded."""
        rows = self._rows
        self.ids_BL = rows.ids_BL
        self.n_pad_B = rows.ids_BL.shape[1] - self.gen_length - rows.prompt_length_B
        self.attention_mask_BL = None
        if bool((self.n_pad_B > 0).any()):
            column_L = torch.arange(rows.ids_BL.shape[1], device=self._device)
            self.attention_mask_BL = column_L >= self.n_pad_B[:, None]


def _first(marks_BG: torch.Tensor, otherwise: int) -> torch.Tensor:
    """int64 [B]: the first marked column, `otherwise` in a row without any."""
    return torch.where(marks_BG.any(dim=1), marks_BG.int().argmax(dim=1), otherwise)


def _known(values_BG: torch.Tensor, reveal_step_BG: torch.Tensor) -> list[list[float | None]]:
    """The values as lists, None where never revealed."""
    rows = zip(values_BG.tolist(), reveal_step_BG.tolist(), strict=True)
    return [
        [value if step >= 0 else None for value, step in zip(values, steps, strict=True)]
        for values, steps in rows
    ]
