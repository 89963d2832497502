"""Decoding points of a sweep: what a threshold means under each reveal rule, in words and in order.

The rules themselves are in trims_core.decoding; this module is light, so that settings, keys and the report
can read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeAlias

RuleName: TypeAlias = Literal[
    "threshold",
    "factor",
    "factor_compat",
    "entropy",
    "multi_block",
    "pipelined",
    "dream_official",
    "steps",
    "eoser",
    "ass",
    "eoser_ass",
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
    option: str = "threshold"
    """The rule's option that takes the number, in the words of `trims generate`; empty where the canvas alone
    decides, which the number then has to agree with."""

    @property
    def counts_forwards(self) -> bool:
        """Whether the number is that of the forwards a canvas takes, known before anything is decoded."""
        return self.word == "forwards"

    def holds(self, value: float) -> bool:
        """Whether the rule is defined at this value."""
        above = value >= self.low if self.low_included else value > self.low
        return above and value <= self.high and (not self.counts_forwards or value == int(value))


_PROBABILITY: Final = ("a probability above 0 and up to 1", 0.0, 1.0)
_NATS: Final = ("0 nats or more", 0.0, float("inf"))
_FACTOR: Final = ("a number above 0", 0.0, float("inf"))
_FORWARDS: Final = ("a whole number of forwards, 1 or more", 1.0, 32767.0)
NO_BLOCKS: Final[frozenset[RuleName]] = frozenset(("ass", "eoser_ass"))
"""Rules that divide the canvas by themselves: block_length plays no part."""
READS_GAMMA: Final[frozenset[RuleName]] = frozenset(("eoser", "eoser_ass"))
"""Rules that hold end tokens back: they read gamma_min."""

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
        option="factor",
    ),
    "factor_compat": PointMeaning(
        "factor",
        "the n most confident positions of the block, n bounded by the confidence of the n-th and the factor,"
        " with the published program's extra position at the end of a block",
        *_FACTOR,
        rising=True,
        option="factor",
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
    "steps": PointMeaning(
        "forwards",
        "an equal share of the block, its most confident positions",
        *_FORWARDS,
        low_included=True,
        option="steps",
    ),
    "eoser": PointMeaning(
        "forwards",
        "an equal share of the block, its most confident positions, ends of sequence held back at first",
        *_FORWARDS,
        low_included=True,
        option="steps",
    ),
    "ass": PointMeaning(
        "forwards",
        "twice as many positions as the forward before, the most confident of the canvas, and the last one"
        " the rest",
        *_FORWARDS,
        low_included=True,
        option="",
    ),
    "eoser_ass": PointMeaning(
        "forwards",
        "twice as many positions as the forward before, the most confident of the canvas with ends of"
        " sequence held back at first, and the last one the rest",
        *_FORWARDS,
        low_included=True,
        option="",
    ),
}


def point_text(rule: RuleName, threshold: float | None) -> str:
    """`threshold 0.9`, `entropy 0.1 nats`, `6 forwards`; None: `one token per forward`."""
    if threshold is None:
        return "one token per forward"
    meaning = MEANINGS[rule]
    if meaning.counts_forwards:
        return f"{threshold:g} forward{'' if threshold == 1 else 's'}"
    return f"{meaning.word} {threshold:g}{meaning.unit}"


def parallelism_order(rule: RuleName, threshold: float | None) -> float:
    """A number that grows from the least parallel point (one token per forward) to the most parallel."""
    if threshold is None:
        return float("-inf")
    return threshold if MEANINGS[rule].rising else -threshold


def middle_point(rule: RuleName, thresholds: Iterable[float | None]) -> float | None:
    """Of some points the middle one by parallelism; of an even number the more parallel of the two."""
    ordered = sorted(thresholds, key=partial(parallelism_order, rule))
    return ordered[len(ordered) // 2]


def ascending_steps(gen_length: int) -> int:
    """⌊log2 gen_length⌋: forwards of a canvas whose steps ascend."""
    return gen_length.bit_length() - 1


def undefined_number(rule: RuleName, number: float, gen_length: int, block_length: int) -> str | None:
    """What is wrong with a number of forwards on such a canvas, and what is right; None where nothing is."""
    if not MEANINGS[rule].counts_forwards or gen_length % block_length:
        return None
    if rule in NO_BLOCKS:
        right = ascending_steps(gen_length)
        if number == right > 0:
            return None
        least = "" if right else "; the canvas needs at least 2 positions"
        return (
            f"{number:g} forwards with rule {rule} on {gen_length} positions: expected {right}, as many as"
            f" its steps of 1, 2, 4, … positions take (⌊log2 {gen_length}⌋){least}"
        )
    n_blocks = gen_length // block_length
    if n_blocks <= number <= gen_length and number % n_blocks == 0:
        return None
    return (
        f"{number:g} forwards with rule {rule} on {gen_length} positions in {n_blocks} blocks of"
        f" {block_length}: expected a multiple of {n_blocks} between {n_blocks} and {gen_length}"
    )
