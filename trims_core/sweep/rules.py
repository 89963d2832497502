"""From the sweep's settings to the decoder's: the reveal rule of a cell, its cache, tokens by their ids.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from trims_core.config import SamplingConfig, SweepConfig
from trims_core.decoding import (
    CACHES,
    DecodeSettings,
    DreamThreshold,
    EntropyThreshold,
    Factor,
    MultiBlock,
    RevealRule,
    Sampling,
    Threshold,
    one_per_forward,
)
from trims_core.errors import ConfigError
from trims_core.points import RuleName
from trims_core.sweep.cells import Cell, grid

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

RULES: Final[Mapping[RuleName, Callable[[SweepConfig, float], RevealRule]]] = {
    "threshold": lambda _, value: Threshold(value),
    "factor": lambda _, value: Factor(value),
    "factor_compat": lambda _, value: Factor(value, compat=True),
    "entropy": lambda _, value: EntropyThreshold(value),
    "multi_block": lambda config, value: MultiBlock(value, add=config.multi_block_add),
    "dream_official": lambda config, value: DreamThreshold(value, config.dream_steps or config.gen_length),
}
"""The rule that a threshold belongs to, by its name in the settings."""


def decode_settings(config: SweepConfig, cell: Cell, sampling: Sampling) -> DecodeSettings:
    """How a cell is decoded."""
    rule: RevealRule = one_per_forward(config.gen_length)
    if cell.threshold is not None:
        rule = RULES[cell.rule](config, cell.threshold)
    return DecodeSettings(
        rule=rule,
        gen_length=config.gen_length,
        block_length=config.block_length,
        stop_at_end=config.stop_at_end,
        batch_size=config.batch_size,
        cache=CACHES[cell.cache],
        sampling=sampling,
        stop_strings=config.stop_strings,
    )


def check_settings(config: SweepConfig) -> None:
    """Raises ConfigError where a cell's settings are not defined, naming the cell; needs no student."""
    sampling = _without_tokens(config.sampling)
    for cell in grid(config, tuned=False):
        try:
            decode_settings(config, cell, sampling).check()
        except ConfigError as error:
            raise ConfigError(f"sweep, {cell.text()}: {error}") from error


def sampling_for(config: SamplingConfig, tokenizer: PreTrainedTokenizerFast, vocab_size: int) -> Sampling:
    """The settings with tokens by their ids. Raises: ConfigError naming a token the student does not have."""
    return replace(
        _without_tokens(config),
        suppress_ids=_ids_of("suppress", config.suppress, tokenizer, vocab_size),
        begin_suppress_ids=_ids_of("begin_suppress", config.begin_suppress, tokenizer, vocab_size),
    )


def _without_tokens(config: SamplingConfig) -> Sampling:
    return Sampling(
        temperature=config.temperature,
        seed=config.seed,
        tempered_confidence=config.tempered_confidence,
        top_p=config.top_p,
        top_k=config.top_k,
        guidance=config.guidance,
    )


def _ids_of(
    field: str, tokens: Iterable[str | int], tokenizer: PreTrainedTokenizerFast, vocab_size: int
) -> frozenset[int]:
    vocabulary = tokenizer.get_vocab() if tokens else {}
    found: dict[str | int, int | None] = {
        token: vocabulary.get(token) if isinstance(token, str) else token for token in tokens
    }
    unknown = [token for token, number in found.items() if number is None or number >= vocab_size]
    if unknown:
        raise ConfigError(
            f"sweep.sampling.{field}: the student has no token {', '.join(map(repr, unknown))}; expected"
            f" texts as in its tokenizer.json (such as {tokenizer.eos_token!r}) or ids below {vocab_size}"
        )
    return frozenset(number for number in found.values() if number is not None)
