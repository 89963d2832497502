"""Reveal rules: which candidates of one forward become part of the text.

A rule is a small class. `check` refuses settings it is not defined on before anything runs, `candidates`
says which positions may be revealed, `choose` marks those that are. The canvas loop adds what no rule may
break: only candidates are revealed, and unless the rule says that it waits, at least one per sequence and
forward, so decoding ends whatever a rule or a model does.

Shapes: B sequences, G canvas positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from trims_core.decoding.proposals import Progress, Proposals
from trims_core.errors import ConfigError


class RevealRule:
    """Base of all rules: blocks of equal length, candidates in the current block, never waiting."""

    looks_back: ClassVar[bool] = True
    """Whether a family with shifted logits is also fed the column before a block, which predicts its first
    position."""

    @property
    def levels(self) -> tuple[float, ...]:
        """Confidences that `choose` compares with; float64 decides near them."""
        return ()

    @property
    def reads_confidence(self) -> bool:
        """Whether confidences decide what is revealed; False where entropies alone do."""
        return True

    def block_lengths(self, gen_length: int, block_length: int) -> tuple[int, ...]:
        """Lengths of the canvas' blocks from left to right."""
        return (block_length,) * (gen_length // block_length)

    def check(self, gen_length: int, block_length: int, cache: str) -> None:
        """Raises ConfigError where the rule is not defined on such a canvas or with such a cache."""
        del cache
        if gen_length < 1 or block_length < 1 or gen_length % block_length:
            raise ConfigError(
                f"gen_length {gen_length} with block_length {block_length}:"
                " expected positive lengths, gen_length a multiple of block_length"
            )

    def candidates(self, progress: Progress) -> torch.Tensor:
        """bool [B, G]: the positions that may be revealed next; at least one per sequence."""
        return progress.current_block()

    def choose(self, proposals: Proposals) -> torch.Tensor:
        """bool [B, G]: the candidates to reveal."""
        raise NotImplementedError

    def waits(self, proposals: Proposals) -> torch.Tensor | None:
        """bool [B]: sequences for which revealing nothing is right; None for never. Must end by itself."""
        del proposals
        return None


class ScheduledRule(RevealRule):
    """A rule that reveals a number of candidates known beforehand, the highest ranked."""

    def count(self, progress: Progress) -> torch.Tensor:
        """int64 [B]: how many candidates are revealed after this forward."""
        raise NotImplementedError

    def fraction(self, progress: Progress) -> torch.Tensor:
        """float64 [B]: how far the schedule has come, 1 at its last step."""
        raise NotImplementedError

    def choose(self, proposals: Proposals) -> torch.Tensor:
        return rank(proposals.confidence_BG) < self.count(proposals.progress)[:, None]


@dataclass(frozen=True)
class TopK(ScheduledRule):
    """The most confident candidates, a fixed number per forward.

    The canvas takes `steps` forwards, divided equally over its blocks; where they do not divide a block's
    length the first forwards of the block reveal one more. Equal confidences: the leftmost first.

    Source: LLaDA (arXiv 2502.09992), low-confidence remasking; method notes §5.
    """

    steps: int

    def check(self, gen_length: int, block_length: int, cache: str) -> None:
        super().check(gen_length, block_length, cache)
        n_blocks = gen_length // block_length
        if not 1 <= self.steps <= gen_length or self.steps % n_blocks:
            raise ConfigError(
                f"steps {self.steps} on a canvas of {gen_length} positions in {n_blocks} blocks:"
                f" expected a multiple of {n_blocks} between {n_blocks} and {gen_length}"
            )

    def count(self, progress: Progress) -> torch.Tensor:
        base, remainder = divmod(progress.block_lengths[0], self.steps // len(progress.block_lengths))
        return base + (progress.block_step_B < remainder).long()

    def fraction(self, progress: Progress) -> torch.Tensor:
        return progress.block_step_B.double() / max(self.steps - 1, 1)


@dataclass(frozen=True)
class Threshold(RevealRule):
    """The most confident candidate, and every other whose confidence reaches `tau`.

    Source: Fast-dLLM (arXiv 2505.22618), threshold decoding; method notes §5.
    """

    tau: float

    @property
    def levels(self) -> tuple[float, ...]:
        return (self.tau,)

    def check(self, gen_length: int, block_length: int, cache: str) -> None:
        super().check(gen_length, block_length, cache)
        if not 0.0 < self.tau <= 1.0:
            raise ConfigError(f"threshold {self.tau}: expected a probability above 0 and up to 1")

    def choose(self, proposals: Proposals) -> torch.Tensor:
        return first(proposals.confidence_BG) | (proposals.confidence_BG >= self.tau)


@dataclass(frozen=True)
class Factor(RevealRule):
    """The n most confident candidates for the largest n before c_n first falls below 1 − factor/(n + 1).

    With the confidences in falling order, c_1 ≥ c_2 ≥ …; at least the first is revealed, all of them where
    none falls below. `compat` is the published program's rule: where only the last candidate falls below,
    it is revealed too (of two candidates always both).

    Source: Fast-dLLM (arXiv 2505.22618), factor decoding; method notes §5.
    """

    factor: float
    compat: bool = False

    def check(self, gen_length: int, block_length: int, cache: str) -> None:
        super().check(gen_length, block_length, cache)
        if not 0 < self.factor < math.inf:
            raise ConfigError(f"factor {self.factor}: expected a finite number above 0")

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(level for n in range(1, 257) if (level := 1 - self.factor / (n + 1)) > 0)

    def choose(self, proposals: Proposals) -> torch.Tensor:
        sorted_BG = proposals.confidence_BG.sort(dim=1, descending=True).values
        n_candidates_B1 = proposals.candidate_BG.sum(dim=1, keepdim=True)
        place_G = torch.arange(sorted_BG.shape[1], device=sorted_BG.device)
        fails_BG = (sorted_BG < 1 - self.factor / (place_G + 2)) & (place_G > 0)
        fails_BG |= place_G >= n_candidates_B1
        n_revealed_B1 = torch.where(
            fails_BG.any(dim=1, keepdim=True), fails_BG.int().argmax(dim=1, keepdim=True), len(place_G)
        )
        if self.compat:
            n_revealed_B1 = n_revealed_B1 + (n_revealed_B1 == n_candidates_B1 - 1).long()
        return rank(proposals.confidence_BG) < n_revealed_B1


@dataclass(frozen=True)
class EntropyThreshold(RevealRule):
    """The candidate of lowest entropy, and every other whose entropy is at most `tau` nats.

    Source: dParallel, d3LLM; method notes §5.
    """

    tau: float

    def check(self, gen_length: int, block_length: int, cache: str) -> None:
        super().check(gen_length, block_length, cache)
        if not 0 <= self.tau < math.inf:
            raise ConfigError(f"entropy threshold {self.tau}: expected a finite number of nats, 0 or more")

    @property
    def reads_confidence(self) -> bool:
        return False

    def choose(self, proposals: Proposals) -> torch.Tensor:
        return first(-proposals.entropy_BG) | (proposals.entropy_BG <= self.tau)


def one_per_forward(gen_length: int) -> TopK:
    """The slowest rule: one position per forward, the point every curve starts from."""
    return TopK(steps=gen_length)


def first(score_BG: torch.Tensor) -> torch.Tensor:
    """bool [B, G]: the highest score of each sequence, the leftmost of equals."""
    best_B1 = score_BG.argmax(dim=1, keepdim=True)
    return torch.zeros_like(score_BG, dtype=torch.bool).scatter_(1, best_B1, True)


def rank(score_BG: torch.Tensor) -> torch.Tensor:
    """int64 [B, G]: 0 for a sequence's highest score, 1 for the next; equals from left to right."""
    order_BG = score_BG.argsort(dim=1, descending=True, stable=True)
    places_BG = torch.arange(order_BG.shape[1], device=order_BG.device).expand_as(order_BG)
    return torch.empty_like(order_BG).scatter_(1, order_BG, places_BG)
