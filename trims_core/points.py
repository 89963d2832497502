"""Decoding points of a sweep: what a threshold means under each reveal rule, in words and in order.

The rules themselves are in trims_core.decoding; this module is light, so that settings, keys and the report
can read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

RuleName: TypeAlias = Literal[
    "threshold", "factor", "factor_compat", "entropy", "multi_block", "pipelined", "dream_official"
]
CacheName: TypeAlias = Literal["none", "prefix", "dual", "exact"]
WITHOUT_ERROR: Final[frozenset[CacheName]] = frozenset({"none", "exact"})
"""Caches that change no token; exact is defined for block-causal students alone."""
SEVERAL_BLOCKS: Final[frozenset[RuleName]] = frozenset({"multi_block", "pipelined"})
"""Rules that work on several blocks at once."""


@dataclass(frozen=True)
class PointMeaning:
    """What a rule's thresholds are."""

    word: str
    """What the number is called in front of it."""
    says: str
    """What one forward reveals, as the end of a sentence."""
    expected: str
    """The range, in words."""
    low: float
    high: float
    low_included: bool = False
    rising: bool = False
    """A larger number reveals more per forward."""
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether the rule is defined at this value."""
        return (value >= self.low if self.low_included else value > self.low) and value <= self.high


_PROBABILITY: Final = ("a probability above 0 and up to 1", 0.0, 1.0)
_NATS: Final = ("0 nats or more", 0.0, float("inf"))
_FACTOR: Final = ("a number above 0", 0.0, float("inf"))

MEANINGS: Final[Mapping[RuleName, PointMeaning]] = {
    "threshold": PointMeaning(
        "threshold",
        "the most confident position of the block and every other whose confidence reaches the threshold",
        *_PROBABILITY,
    ),
    "factor": PointMeaning(
        "factor",
        "the n most confident positions of the block, n bounded by the confidence of the n-th and the factor",
        *_FACTOR,
        rising=True,
    ),
    "factor_compat": PointMeaning(
        "factor",
        "the n most confident positions of the block, n bounded by the confidence of the n-th and the factor,"
        " with the published program's extra position at the end of a block",
        *_FACTOR,
        rising=True,
    ),
    "entropy": PointMeaning(
        "entropy",
        "the position of lowest entropy in the block and every other whose entropy is at most the threshold",
        *_NATS,
        low_included=True,
        rising=True,
        unit=" nats",
    ),
    "multi_block": PointMeaning(
        "entropy",
        "the position of lowest entropy in several open blocks and every other whose entropy is at most the"
        " threshold",
        *_NATS,
        low_included=True,
        rising=True,
        unit=" nats",
    ),
    "pipelined": PointMeaning(
        "threshold",
        "of several open blocks every position whose confidence exceeds the threshold, and of those whose"
        " predecessor is almost done at least one",
        *_PROBABILITY,
    ),
    "dream_official": PointMeaning(
        "threshold",
        "as in Dream's published loop the most confident position and those whose confidence reaches the"
        " threshold, within a quota where there is no cache",
        *_PROBABILITY,
    ),
}


def point_text(rule: RuleName, threshold: float | None) -> str:
    """`threshold 0.9`, `entropy 0.1 nats`; None: `one token per forward`."""
    if threshold is None:
        return "one token per forward"
    meaning = MEANINGS[rule]
    return f"{meaning.word} {threshold:g}{meaning.unit}"


def parallelism_order(rule: RuleName, threshold: float | None) -> float:
    """A number that grows from the least parallel point (one token per forward) to the most parallel."""
    if threshold is None:
        return float("-inf")
    return threshold if MEANINGS[rule].rising else -threshold
