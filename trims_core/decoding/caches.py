"""Which columns a forward is fed, and the keys and values of the columns it is not.

Every policy is the same loop with another choice of columns: what is fed has its keys and values written in
place, and attends to those of all columns. Prefix and dual feed everything where a block begins ("warm");
exact feeds a column until it is final, for students whose final columns never change.

Source: Fast-dLLM (arXiv 2505.22618), prefix and dual cache; D2F (arXiv 2508.09192), exact; method notes §5.
Shapes: B sequences, Q fed columns, L all columns, H heads, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

if TYPE_CHECKING:
    from trims_core.decoding.proposals import Progress


class CachePolicy(Protocol):
    """What is fed."""

    name: ClassVar[str]
    stores: ClassVar[bool]
    """Whether keys and values outlive a forward."""
    approximates: ClassVar[bool]
    """Whether what is kept may differ from what a forward of everything would give."""

    def feed(self, progress: Progress, candidate_BG: torch.Tensor) -> torch.Tensor | None:
        """int64 [B, 2]: first canvas position fed and the one behind the last; a first one below 0 means
        everything up to the last. None where prompt and canvas are always fed whole."""


@dataclass(frozen=True)
class NoCache:
    """Every forward is fed prompt and canvas. Exact."""

    name: ClassVar[str] = "none"
    stores: ClassVar[bool] = False
    approximates: ClassVar[bool] = False

    def feed(self, progress: Progress, candidate_BG: torch.Tensor) -> torch.Tensor | None:
        del progress, candidate_BG
        return None


@dataclass(frozen=True)
class PrefixCache:
    """Feeds the current block and everything behind it; what is before keeps the keys and values it had
    when the block began. Approximate: the prompt does not see the block's new tokens until it is full."""

    name: ClassVar[str] = "prefix"
    stores: ClassVar[bool] = True
    approximates: ClassVar[bool] = True

    def feed(self, progress: Progress, candidate_BG: torch.Tensor) -> torch.Tensor | None:
        del candidate_BG
        start_B = progress.block_range_B2[:, 0]
        end_B = torch.full_like(start_B, progress.gen_length)
        return _after_warm(progress, torch.stack((start_B, end_B), dim=1))


@dataclass(frozen=True)
class DualCache:
    """Feeds the current block only; the columns on both sides keep the keys and values they had when the
    block began. Approximate, and the fastest."""

    name: ClassVar[str] = "dual"
    stores: ClassVar[bool] = True
    approximates: ClassVar[bool] = True

    def feed(self, progress: Progress, candidate_BG: torch.Tensor) -> torch.Tensor | None:
        del candidate_BG
        return _after_warm(progress, progress.block_range_B2)


@dataclass(frozen=True)
class ExactCache:
    """Feeds the prompt once, and every block from when it is open until it has been fed finished behind
    finished blocks. Exact for block-causal students, and refused for others: no column of theirs is final."""

    name: ClassVar[str] = "exact"
    stores: ClassVar[bool] = True
    approximates: ClassVar[bool] = False

    def feed(self, progress: Progress, candidate_BG: torch.Tensor) -> torch.Tensor | None:
        length = progress.block_lengths[0]
        # blocks before the last forward's current one were finished when it fed them
        start_B = progress.last_block_B * length
        place_G = torch.arange(1, progress.gen_length + 1, device=start_B.device)
        open_B = ((place_G * candidate_BG).amax(dim=1) + length - 1) // length
        return torch.stack((start_B, open_B * length), dim=1)


CACHES: dict[str, CachePolicy] = {
    policy.name: policy for policy in (NoCache(), PrefixCache(), DualCache(), ExactCache())
}
"""The policies by the names used in settings."""


def _after_warm(progress: Progress, range_B2: torch.Tensor) -> torch.Tensor:
    """The ranges, and everything where a block begins."""
    whole_2 = torch.tensor([-1, progress.gen_length], device=range_B2.device)
    return torch.where((progress.block_step_B == 0)[:, None], whole_2, range_B2)


@dataclass(frozen=True)
class Feed:
    """One forward: the sequences that take part and the columns of each that are fed."""

    rows: torch.Tensor | None
    """int64 [B]: rows of the batch; None where all take part."""
    start: int | None
    """First column fed where it is the same for all rows; None where `columns_BQ` differ."""
    columns_BQ: torch.Tensor
    """int64 [B, Q]: columns of the padded batch."""


class KeyValueStore:
    """Keys and values of every column of every sequence in the batch, one pair of buffers per layer.

    Buffers are [rows, L, H, D] and made by the first forward; later ones write their columns in place. What
    was never fed is 0, and masked where it must not be seen. `aim` says where the next forward writes; then
    the attention layers call `update`.
    """

    def __init__(self) -> None:
        self._buffers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._feed: Feed | None = None
        self._n_rows = 0
        self._width = 0

    def aim(self, feed: Feed, n_rows: int, width: int) -> None:
        """The next forward is this one, in a batch of so many rows and columns."""
        self._feed, self._n_rows, self._width = feed, n_rows, width

    def update(
        self, keys_BHQD: torch.Tensor, values_BHQD: torch.Tensor, layer: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's fresh keys and values; returns those of all columns, [B, H, L, D] each."""
        assert self._feed is not None, "aim first"
        if layer not in self._buffers:
            self._buffers[layer] = (self._new(keys_BHQD), self._new(values_BHQD))
        buffers = self._buffers[layer]
        fresh = (keys_BHQD.transpose(1, 2), values_BHQD.transpose(1, 2))
        keys, values = (self._write(old, new) for old, new in zip(buffers, fresh, strict=True))
        return keys.transpose(1, 2), values.transpose(1, 2)

    def keep(self, rows: torch.Tensor, n_cut: int) -> None:
        """Only these rows are left, in this order, and so many columns of padding are gone."""
        self._buffers = {
            layer: (keys[rows, n_cut:], values[rows, n_cut:])
            for layer, (keys, values) in self._buffers.items()
        }

    def grow(self, n_rows: int) -> None:
        """So many rows enter behind the present ones; their first forward fills them."""
        self._buffers = {
            layer: (_with_rows(keys, n_rows), _with_rows(values, n_rows))
            for layer, (keys, values) in self._buffers.items()
        }

    def clear(self) -> None:
        """Forget everything; the next forward must be whole."""
        self._buffers = {}

    def _new(self, like_BHQD: torch.Tensor) -> torch.Tensor:
        n_heads, width = like_BHQD.shape[1], like_BHQD.shape[3]
        return like_BHQD.new_zeros(self._n_rows, self._width, n_heads, width)

    def _write(self, buffer: torch.Tensor, fresh_BQHD: torch.Tensor) -> torch.Tensor:
        feed = self._feed
        assert feed is not None
        whole = fresh_BQHD.shape[1] == buffer.shape[1]
        if feed.rows is None and feed.start is not None:
            buffer[:, feed.start : feed.start + fresh_BQHD.shape[1]] = fresh_BQHD
            return buffer
        if whole and feed.rows is not None:
            buffer[feed.rows] = fresh_BQHD
            return fresh_BQHD
        rows = torch.arange(buffer.shape[0], device=buffer.device) if feed.rows is None else feed.rows
        buffer[rows[:, None], feed.columns_BQ] = fresh_BQHD
        return buffer if feed.rows is None else buffer[feed.rows]


def _with_rows(buffer: torch.Tensor, n_rows: int) -> torch.Tensor:
    return torch.cat((buffer, buffer.new_zeros(n_rows, *buffer.shape[1:])))
