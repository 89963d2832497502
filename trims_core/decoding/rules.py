"""Reveal rules: which candidates of one forward become part of the text.

A rule is a small class: `check` refuses impossible settings before anything runs, `choose` marks positions.
The canvas loop adds what no rule may break: only candidates are revealed, and at least one per sequence and
forward (the most confident), so decoding ends whatever a rule or a model does.

Shapes: B sequences, G canvas positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from trims_core.decoding.proposals import Proposals
from trims_core.errors import ConfigError


class RevealRule(Protocol):
    """Chooses the positions revealed after a forward."""

    def check(self, gen_length: int, block_length: int) -> None:
        """Raises ConfigError where the rule is not defined on such a canvas."""

    def choose(self, proposals: Proposals) -> torch.Tensor:
        """bool [B, G]: the candidates to reveal."""


@dataclass(frozen=True)
class TopK(RevealRule):
    """The most confident candidates, a fixed number per forward.

    The canvas takes `steps` forwards, divided equally over its blocks; where they do not divide a block's
    length the first forwards of the block reveal one more. Equal confidences: the leftmost first.

    Source: LLaDA (arXiv 2502.09992), low-confidence remasking; method notes §5.
    """

    steps: int

    def check(self, gen_length: int, block_length: int) -> None:
        n_blocks = gen_length // block_length
        if not 1 <= self.steps <= gen_length or self.steps % n_blocks:
            raise ConfigError(
                f"steps {self.steps} on a canvas of {gen_length} positions in {n_blocks} blocks:"
                f" expected a multiple of {n_blocks} between {n_blocks} and {gen_length}"
            )

    def choose(self, proposals: Proposals) -> torch.Tensor:
        steps_per_block = self.steps // proposals.n_blocks
        base, remainder = divmod(proposals.block_length, steps_per_block)
        count_B = base + (proposals.block_step_B < remainder).long()
        return rank_by_confidence(proposals) < count_B[:, None]


@dataclass(frozen=True)
class Threshold(RevealRule):
    """The most confident candidate, and every other whose confidence reaches `tau`.

    Source: Fast-dLLM (arXiv 2505.22618), threshold decoding without cache; method notes §5.
    """

    tau: float

    def check(self, gen_length: int, block_length: int) -> None:
        del gen_length, block_length
        if not 0.0 < self.tau <= 1.0:
            raise ConfigError(f"threshold {self.tau}: expected a probability above 0 and up to 1")

    def choose(self, proposals: Proposals) -> torch.Tensor:
        return most_confident(proposals) | (proposals.confidence_BG >= self.tau)


def one_per_forward(gen_length: int) -> TopK:
    """The slowest rule: one position per forward, the point every curve starts from."""
    return TopK(steps=gen_length)


def most_confident(proposals: Proposals) -> torch.Tensor:
    """bool [B, G]: the one most confident candidate of each sequence, the leftmost of equals."""
    best_B1 = proposals.confidence_BG.argmax(dim=1, keepdim=True)
    return torch.zeros_like(proposals.candidate_BG).scatter_(1, best_B1, True)


def rank_by_confidence(proposals: Proposals) -> torch.Tensor:
    """int64 [B, G]: 0 for a sequence's most confident position, 1 for the next; equals from left to right."""
    order_BG = proposals.confidence_BG.argsort(dim=1, descending=True, stable=True)
    places_BG = torch.arange(order_BG.shape[1], device=order_BG.device).expand_as(order_BG)
    return torch.empty_like(order_BG).scatter_(1, order_BG, places_BG)
