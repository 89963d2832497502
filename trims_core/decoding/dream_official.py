"""Dream's published loops, restated token for token: what its accuracies were measured with.

They differ from the rules of the other modules: steps may reveal nothing, the number revealed follows a
schedule of noise levels over whatever is still masked, and with a cache a block's first forward reveals its
first position only, whatever its confidence.

Source: Dream's diffusion_generate and Fast-dLLM's version of it (arXiv 2505.22618); peers' notes §2a, §2b.
Shapes: B sequences, G canvas positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch

from trims_core.decoding.proposals import Progress, Proposals
from trims_core.decoding.rules import RevealRule, first, rank
from trims_core.errors import ConfigError
from trims_core.points import WITHOUT_ERROR

_LAST_NOISE: Final = 1e-3


class _DreamRule(RevealRule):
    """What both have in common: the first forward of a cached block opens it with its first position."""

    looks_back: ClassVar[bool] = False
    """A block's own columns are fed, not the one before it that predicts its first position."""

    def check(self, gen_length: int, block_length: int, cache: str) -> None:
        super().check(gen_length, block_length, cache)
        if cache in WITHOUT_ERROR and block_length != gen_length:
            raise ConfigError(
                f"dream_official without cache on blocks of {block_length}: not defined, because that loop"
                f" has no blocks; set block_length to gen_length ({gen_length})"
            )

    def _opened(self, proposals: Proposals, chosen_BG: torch.Tensor) -> torch.Tensor:
        progress = proposals.progress
        if not progress.cached:
            return chosen_BG
        place_G = torch.arange(progress.gen_length, device=chosen_BG.device)
        opening_BG = place_G == progress.block_range_B2[:, :1]
        return torch.where((progress.block_step_B == 0)[:, None], opening_BG, chosen_BG)


@dataclass(frozen=True)
class DreamSteps(_DreamRule):
    """Per forward a share of what is masked, by a schedule of noise levels from 1 to 0.001; the last forward
    of a block reveals the rest. The most confident first (`maskgit_plus`), or those of lowest entropy.
    """

    steps: int
    score: Literal["entropy", "confidence"] = "entropy"

    @property
    def reads_confidence(self) -> bool:
        return self.score == "confidence"

    def check(self, gen_length: int, block_length: int, cache: str) -> None:
        super().check(gen_length, block_length, cache)
        n_blocks = gen_length // block_length
        if self.steps < n_blocks or self.steps % n_blocks:
            raise ConfigError(
                f"dream steps {self.steps} in {n_blocks} blocks: expected a multiple of {n_blocks}"
            )

    def choose(self, proposals: Proposals) -> torch.Tensor:
        progress = proposals.progress
        score_BG = proposals.confidence_BG if self.score == "confidence" else -proposals.entropy_BG
        chosen_BG = rank(score_BG) < self._count(progress, proposals.candidate_BG)[:, None]
        return self._opened(proposals, chosen_BG)

    def waits(self, proposals: Proposals) -> torch.Tensor:
        progress = proposals.progress
        return progress.block_step_B < self.steps // len(progress.block_lengths) - 1

    def _count(self, progress: Progress, candidate_BG: torch.Tensor) -> torch.Tensor:
        n_steps = self.steps // len(progress.block_lengths)
        levels = torch.linspace(1, _LAST_NOISE, n_steps + 1, device=candidate_BG.device)
        step_B = progress.block_step_B.clamp(max=n_steps - 1)
        n_masked_B = candidate_BG.sum(dim=1)
        share_B = 1 - levels[step_B + 1] / levels[step_B]
        return torch.where(step_B == n_steps - 1, n_masked_B, (n_masked_B * share_B).long())


@dataclass(frozen=True)
class DreamThreshold(_DreamRule):
    """The most confident candidate and those that reach `tau`.

    Without cache only among the top of a quota: gen_length/steps per forward, and what earlier forwards left
    over. With a cache there is no quota.
    """

    tau: float
    steps: int

    @property
    def levels(self) -> tuple[float, ...]:
        return (self.tau,)

    def check(self, gen_length: int, block_length: int, cache: str) -> None:
        super().check(gen_length, block_length, cache)
        if not 0.0 < self.tau <= 1.0 or self.steps < 1:
            raise ConfigError(
                f"dream threshold {self.tau} with {self.steps} steps: expected a probability above 0 and up"
                " to 1, and at least one step"
            )

    def choose(self, proposals: Proposals) -> torch.Tensor:
        progress = proposals.progress
        confidence_BG = proposals.confidence_BG
        chosen_BG = first(confidence_BG) | (confidence_BG >= self.tau)
        if not progress.cached:
            n_revealed_B = progress.gen_length - progress.masked_BG.sum(dim=1)
            quota_B = (progress.step_B + 1) * progress.gen_length // self.steps - n_revealed_B
            chosen_BG &= rank(confidence_BG) < quota_B.clamp(min=1)[:, None]
        return self._opened(proposals, chosen_BG)
