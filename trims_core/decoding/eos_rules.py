"""Rules of the CJ-GRPO paper: end tokens held back early, and steps that reveal ever more.

Source: "Taming Masked Diffusion Language Models via Consistency Trajectory Reinforcement Learning"
(arXiv 2509.23924) and its released loops; method notes §5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from trims_core.decoding.proposals import Progress, Proposals
from trims_core.decoding.rules import RevealRule, ScheduledRule
from trims_core.errors import ConfigError
from trims_core.points import ascending_steps


@dataclass(frozen=True)
class Ass(ScheduledRule):
    """Ascending step size: forward s reveals 2^s tokens, the last one all that are left.

    S = ⌊log2 gen_length⌋ forwards in all. With n blocks the first takes S − n + 1 forwards and every later
    one a single forward that fills it, so blocks double in length from left to right; the settings'
    block_length plays no part.
    """

    n_blocks: int = 1

    def block_lengths(self, gen_length: int, block_length: int) -> tuple[int, ...]:
        del block_length
        steps = ascending_steps(gen_length)
        if self.n_blocks == 1:
            return (gen_length,)
        later = [2**step for step in range(steps - self.n_blocks + 1, steps - 1)]
        last = 2 ** (steps - 1) + 1 + gen_length - 2**steps
        return (gen_length - sum(later) - last, *later, last)

    def check(self, gen_length: int, block_length: int, cache: str) -> None:
        del block_length
        super().check(gen_length, gen_length, cache)
        if not 1 <= self.n_blocks <= ascending_steps(gen_length):
            raise ConfigError(
                f"ass with {self.n_blocks} blocks on {gen_length} positions: expected 1 to"
                f" {ascending_steps(gen_length)} blocks (one forward each) and at least 2 positions"
            )

    def count(self, progress: Progress) -> torch.Tensor:
        last_B = progress.step_B >= ascending_steps(progress.gen_length) - 1
        return torch.where(last_B, progress.gen_length, 2**progress.step_B)

    def fraction(self, progress: Progress) -> torch.Tensor:
        return (2.0 ** (progress.step_B.double() + 1) - 1) / 2 ** ascending_steps(progress.gen_length)


@dataclass(frozen=True)
class Eoser(RevealRule):
    """Another rule's schedule, with the confidence of end-token proposals multiplied by
    γ = γ_min + (1 − γ_min) · (how far the schedule has come). Only the ranking changes.

    Published: γ_min 0.4 over top-k, 0.01 over ascending steps. With several blocks top-k counts its step
    inside the block but divides by all steps, so γ never reaches 1, as in the released loop.
    """

    inner: RevealRule
    gamma_min: float = 0.4

    def block_lengths(self, gen_length: int, block_length: int) -> tuple[int, ...]:
        return self.inner.block_lengths(gen_length, block_length)

    def check(self, gen_length: int, block_length: int, cache: str) -> None:
        if not isinstance(self.inner, ScheduledRule):
            raise ConfigError(
                f"eoser over {type(self.inner).__name__}: not defined, because that rule has no schedule by"
                " which the factor could rise; use topk or ass"
            )
        if not 0 <= self.gamma_min <= 1:
            raise ConfigError(f"eoser gamma_min {self.gamma_min}: expected 0 to 1")
        self.inner.check(gen_length, block_length, cache)

    def candidates(self, progress: Progress) -> torch.Tensor:
        return self.inner.candidates(progress)

    def choose(self, proposals: Proposals) -> torch.Tensor:
        assert isinstance(self.inner, ScheduledRule)
        gamma_B = self.gamma_min + (1 - self.gamma_min) * self.inner.fraction(proposals.progress)
        held_BG = torch.where(
            proposals.is_eos_BG, proposals.confidence_BG * gamma_B[:, None], proposals.confidence_BG
        )
        return self.inner.choose(replace(proposals, confidence_BG=held_BG))
