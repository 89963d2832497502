"""Reveal rules that work on several blocks at once: the next is opened before the newest is done.

Both open blocks alike and differ in what they reveal: MultiBlock goes by entropies over all open blocks,
Pipelined by confidences block by block.

Shapes: B sequences, G canvas positions, K blocks of T positions each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from trims_core.decoding.proposals import Progress, Proposals
from trims_core.decoding.rules import EntropyThreshold, RevealRule, Threshold, first
from trims_core.errors import ConfigError
from trims_core.points import WITHOUT_ERROR

_TOLERANCE: Final = 1e-9
"""0.3 of ten positions are three."""


class OpenBlocks(RevealRule):
    """The next block is worked on as soon as `add` of the newest is revealed; one more per forward."""

    add: float

    def check(self, gen_length: int, block_length: int, cache: str) -> None:
        super().check(gen_length, block_length, cache)
        name = "multi_block" if isinstance(self, MultiBlock) else "pipelined"
        if not 0 < self.add <= 1:
            raise ConfigError(f"{name} add {self.add}: expected a share above 0 and up to 1")
        if cache not in WITHOUT_ERROR:
            raise ConfigError(
                f"{name} with cache {cache}: not defined, because a cache holds what was true when one"
                " block began and here several are open at once; use cache: none, or exact with a"
                " block-causal student"
            )

    def candidates(self, progress: Progress) -> torch.Tensor:
        revealed_BK = revealed_shares(progress)
        return progress.masked_BG & _spread(reached_before(revealed_BK, self.add).cumprod(1).bool(), progress)


@dataclass(frozen=True)
class MultiBlock(OpenBlocks, EntropyThreshold):
    """Entropy decoding with several blocks in flight: the next block is worked on as soon as `add` of the
    newest is revealed. The leftmost unfinished block reveals at least one position per forward.

    The published program also has a share at which a block becomes "fully active"; it decides only which
    block is forced to reveal, and that is always the leftmost unfinished one, whatever the share.

    Source: d3LLM's generate_multi_block; method notes §5.
    """

    add: float = 0.1

    def choose(self, proposals: Proposals) -> torch.Tensor:
        chosen_BG = super().choose(proposals)
        here_BG = proposals.progress.current_block()
        forced_BG = first(torch.where(here_BG, -proposals.entropy_BG, -torch.inf))
        stuck_B1 = ~(chosen_BG & here_BG).any(dim=1, keepdim=True)
        return chosen_BG | (forced_BG & stuck_B1)


@dataclass(frozen=True)
class Pipelined(OpenBlocks, Threshold):
    """Confidence decoding with several blocks in flight: of every open block what exceeds `tau`; of those
    whose predecessor is revealed to a share `activate` (and of the first) at least the most confident.

    The published program opens no block behind an end; here a sequence leaves the batch as soon as all before
    its end is revealed, and under block-causal attention no block changes what stands before it.

    Source: D2F (arXiv 2508.09192); peers' notes §2d.
    """

    add: float = 0.7
    activate: float = 0.95

    def check(self, gen_length: int, block_length: int, cache: str) -> None:
        super().check(gen_length, block_length, cache)
        if not 0 <= self.activate <= 1:
            raise ConfigError(f"pipelined activate {self.activate}: expected a share from 0 to 1")

    def choose(self, proposals: Proposals) -> torch.Tensor:
        progress, confidence_BG = proposals.progress, proposals.confidence_BG
        sure_BG = confidence_BG > self.tau
        shape = (-1, progress.block_lengths[0])
        best_BG = first(confidence_BG.unflatten(1, shape).flatten(0, 1)).view_as(sure_BG)
        lazy_BK = ~sure_BG.unflatten(1, shape).any(dim=2)
        active_BK = reached_before(revealed_shares(progress), self.activate)
        return sure_BG | (best_BG & proposals.candidate_BG & _spread(lazy_BK & active_BK, progress))


def revealed_shares(progress: Progress) -> torch.Tensor:
    """float64 [B, K]: how much of each block is revealed."""
    return 1 - progress.masked_BG.unflatten(1, (-1, progress.block_lengths[0])).double().mean(dim=2)


def reached_before(revealed_BK: torch.Tensor, share: float) -> torch.Tensor:
    """bool [B, K]: whether each block's predecessor is revealed to this share; the first block has none."""
    reached_BK = torch.ones_like(revealed_BK, dtype=torch.bool)
    reached_BK[:, 1:] = revealed_BK[:, :-1] >= share - _TOLERANCE
    return reached_BK


def _spread(of_block_BK: torch.Tensor, progress: Progress) -> torch.Tensor:
    """A block's value at each of its positions [B, G]."""
    return of_block_BK.repeat_interleave(progress.block_lengths[0], dim=1)
