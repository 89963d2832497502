"""Settings of decoding: how tokens are sampled, and the student's own answers to the corpus' prompts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from trims_core.errors import ConfigError
from trims_core.points import (
    MEANINGS,
    NO_BLOCKS,
    SEVERAL_BLOCKS,
    WITHOUT_ERROR,
    CacheName,
    RuleName,
    undefined_number,
)
from trims_core.reward_weights import RewardsConfig
from trims_core.sections import LATER, OPERATIONAL, Fraction, Section, as_tuple
from trims_core.user_code import split_path

TokenName = str | Annotated[int, Field(ge=0)]


class SamplingConfig(Section):
    """What happens to the student's logits before a token is proposed; the default: the likeliest token."""

    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Above 0: Gumbel noise of this size, drawn per problem and forward from `seed`."""
    seed: int = 0
    tempered_confidence: bool = False
    """Confidence is the probability at the temperature (Dream) instead of the plain one (LLaDA)."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = None
    guidance: Annotated[float, Field(ge=0)] = 0.0
    """Classifier-free guidance scale; doubles the rows of a forward, not defined with a cache."""
    suppress: Annotated[tuple[TokenName, ...], BeforeValidator(as_tuple)] = ()
    """Tokens never proposed: eos, eot, a token's text or its id, as in ["<|endoftext|>", 126081]."""
    begin_suppress: Annotated[tuple[TokenName, ...], BeforeValidator(as_tuple)] = ()
    """Tokens proposed with confidence 0, so that they are revealed last."""

    def as_read(self) -> SamplingConfig:
        """The sampling with what temperature 0 does not read at its default."""
        if self.temperature > 0:
            return self
        default = SamplingConfig()
        unread = {name: getattr(default, name) for name in ("seed", "tempered_confidence")}
        return self.model_copy(update=unread)


class RolloutsConfig(Section):
    """The untuned student's own answers to the corpus' prompts, for methods that are trained on them."""

    samples: Annotated[int, Field(ge=1)] = 1
    """Answers per prompt, at sampling.temperature."""
    sampling: SamplingConfig = SamplingConfig()
    """Each answer draws its own noise, from seed, prompt and its number."""
    retry_temperatures: Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(as_tuple)] = ()
    """One more answer per prompt at each of these (d3LLM: 0.1 to 0.4). They are decoded whether or not an
    earlier answer is right: verdicts come later, so that a corrected grader decodes nothing."""
    rule: RuleName = "threshold"
    """Read with a threshold."""
    threshold: float | None = None
    """What the reveal rule goes by: for steps, eoser, ass and eoser_ass the number of forwards; None: one
    token per forward."""
    gamma_min: Annotated[Fraction, LATER] = 0.01
    """What the confidence of end tokens is first multiplied by; read with rule eoser or eoser_ass. CJ-GRPO's
    rollouts have 0.01 with both."""
    cache: CacheName = "none"
    gen_length: Annotated[int, Field(ge=1, le=32767)] = 256
    block_length: Annotated[int, Field(ge=1)] = 32
    """Not read with rule ass or eoser_ass, whose one block is the canvas."""
    stop_at_end: bool = True
    """An answer is finished once an end token and everything before it are revealed."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """The first so many prompts; default: all."""
    grader: str | None = None
    """Who says which answers are right: a benchmark (demo, gsm8k), whose grader finds the right answer in the
    corpus' own completion, or your own `package.module:function` of (messages, completion, answer), which
    gives a truth value, or a number as reward. Exactly one of grader and rewards is set."""
    rewards: Annotated[RewardsConfig | None, LATER] = None
    """What answers earn, in place of a grader: several rewards with weights (docs/rl.md). One that fails
    stops the run, where a grader's failures are counted."""
    right_from: float = 1.0
    """Reward from which on an answer is right; read with a function of your own."""
    batch_size: Annotated[int, Field(ge=1), OPERATIONAL] = 16

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Of each answer to a prompt, in their order."""
        return (*[self.sampling.temperature] * self.samples, *self.retry_temperatures)

    @property
    def read_block_length(self) -> int:
        """The block length that decoding goes by."""
        has_none = self.threshold is not None and self.rule in NO_BLOCKS
        return self.gen_length if has_none else self.block_length

    @property
    def is_own_grader(self) -> bool:
        """Whether the grader is the user's code."""
        return self.grader is not None and ":" in self.grader

    @model_validator(mode="after")
    def _defined(self) -> Self:
        problems = [*self._wrong_values()]
        rule = self.rule if self.threshold is not None else None
        points = () if self.threshold is None else (self.threshold,)
        problems += undefined_pairs(
            rule, points, (self.cache,), self.sampling, self.gen_length, self.read_block_length
        )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _wrong_values(self) -> Iterator[str]:
        if self.threshold is not None and not MEANINGS[self.rule].holds(self.threshold):
            expected = MEANINGS[self.rule].expected
            yield f"threshold {self.threshold:g} with rule {self.rule}: expected {expected}"
        if self.samples > 1 and not self.sampling.temperature:
            yield (
                f"samples {self.samples} with sampling.temperature 0: they would all be the same; set"
                " sampling.temperature above 0, or samples to 1"
            )
        if self.sampling.begin_suppress:
            yield (
                "sampling.begin_suppress: it sets confidences to 0, and rollouts keep log-probabilities; use"
                " sampling.suppress"
            )
        if (self.grader is None) == (self.rewards is None):
            both = "both are set" if self.rewards else "neither is set"
            yield f"grader and rewards: {both}; set one, such as grader: demo, or rewards: {{demo: 1.0}}"
        if self.grader is not None and self.is_own_grader:
            try:
                split_path(self.grader, "grader")
            except ConfigError as error:
                yield str(error)


def undefined_pairs(
    rule: RuleName | None,
    points: Collection[float],
    caches: Collection[CacheName],
    sampling: SamplingConfig,
    gen_length: int,
    block_length: int,
) -> Iterator[str]:
    """What no decoding is defined for, and what to do; further checks need the student.

    Args:
        rule: None: one token per forward.
        points: its thresholds, each in the range that it has on some canvas.
    """
    stores = next((cache for cache in caches if cache != "none"), None)
    approximates = next((cache for cache in caches if cache not in WITHOUT_ERROR), None)
    if approximates and rule in SEVERAL_BLOCKS:
        yield (
            f"rule {rule} with cache {approximates}: several blocks are open; use cache none, or exact with a"
            " block-causal student"
        )
    if stores and sampling.guidance:
        yield f"sampling.guidance with cache {stores}: not defined; use cache none"
    if sampling.begin_suppress and rule in ("entropy", "multi_block"):
        yield (
            f"sampling.begin_suppress with rule {rule}: it sets confidences to 0 and this rule goes"
            " by entropies; use sampling.suppress, or another rule"
        )
    exact = next((cache for cache in caches if cache in WITHOUT_ERROR), None)
    if rule == "dream_official" and exact and block_length != gen_length:
        yield f"rule dream_official with cache {exact}: set block_length to gen_length ({gen_length})"
    if rule is not None:
        wrong = (undefined_number(rule, number, gen_length, block_length) for number in points)
        yield from filter(None, wrong)
    if gen_length % block_length:
        yield f"gen_length {gen_length} is not a multiple of block_length {block_length}"
