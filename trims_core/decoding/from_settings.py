"""From a config's words to the decoder's: the reveal rule of a decoding point, and tokens by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trims_core.decoding.rules import RevealRule, one_per_forward
from trims_core.decoding.sampling import Sampling
from trims_core.decoding_sections import SamplingConfig
from trims_core.errors import ConfigError
from trims_core.generation.named_rules import make_rule
from trims_core.points import MEANINGS, NO_BLOCKS, RuleName, undefined_number
from trims_core.students.tokenizer import token_id

if TYPE_CHECKING:
    from trims_core.students import Student


def rule_at(
    name: RuleName | None,
    threshold: float | None,
    gen_length: int,
    **options: float | None,
) -> RevealRule:
    """The rule of this name at a threshold; None: one token per forward, whatever its name.

    Args:
        options: what else the rule reads (add, activate, steps, gamma_min); None or absent: as published.

    Raises:
        ConfigError: a number of forwards that the canvas does not take under a rule that leaves no choice.
    """
    if name is None or threshold is None:
        return one_per_forward(gen_length)
    wrong = undefined_number(name, threshold, gen_length, gen_length) if name in NO_BLOCKS else None
    if wrong is not None:
        raise ConfigError(wrong)
    meaning = MEANINGS[name]
    number = int(threshold) if meaning.counts_forwards else threshold
    return make_rule(name, {**options, meaning.option: number}, gen_length)


def sampling_without_tokens(config: SamplingConfig) -> Sampling:
    """The settings but for tokens, whose ids the student knows."""
    return Sampling(**config.model_dump(exclude={"suppress", "begin_suppress"}))


def sampling_for(config: SamplingConfig, student: Student, section: str) -> Sampling:
    """The settings with tokens by their ids.

    Args:
        section: where they stand, for messages: `sweep`.

    Raises:
        ConfigError: naming a token the student does not have.
    """

    def ids_of(field: str, tokens: Sequence[str | int]) -> frozenset[int]:
        family, tokenizer = student.family, student.tokenizer
        found = {token: token_id(token, family, tokenizer) for token in tokens}
        unknown = [token for token, number in found.items() if number is None]
        if unknown:
            raise ConfigError(
                f"{section}.sampling.{field}: the student has no token {', '.join(map(repr, unknown))};"
                f" expected eos, eot, texts as in its tokenizer.json (such as {tokenizer.eos_token!r}), or"
                f" ids below {family.vocab_size}"
            )
        return frozenset(number for number in found.values() if number is not None)

    return replace(
        sampling_without_tokens(config),
        suppress_ids=ids_of("suppress", config.suppress),
        begin_suppress_ids=ids_of("begin_suppress", config.begin_suppress),
    )
