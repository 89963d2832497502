"""From the sweep's settings to the decoder's: the reveal rule of a cell, its cache, tokens by their ids.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trims_core.config import SamplingConfig
from trims_core.decoding import CACHES, DecodeSettings, RevealRule, Sampling, one_per_forward
from trims_core.errors import ConfigError
from trims_core.generation.named_rules import make_rule
from trims_core.points import MEANINGS
from trims_core.students.tokenizer import token_id
from trims_core.sweep.cells import grid
from trims_core.sweep.settings import CellSettings, SweepSettings, cell_settings

if TYPE_CHECKING:
    from trims_core.students import Student


def decode_settings(chosen: CellSettings, sampling: Sampling) -> DecodeSettings:
    """How a cell is decoded."""
    return DecodeSettings(
        rule=_rule(chosen),
        gen_length=chosen.gen_length,
        block_length=chosen.block_length,
        stop_at_end=chosen.stop_at_end,
        batch_size=chosen.batch_size,
        cache=CACHES[chosen.cache],
        sampling=sampling,
        stop_strings=chosen.stop_strings,
    )


def check_settings(chosen: SweepSettings) -> None:
    """Raises ConfigError where a cell's settings are not defined, naming the cell; needs no student."""
    sampling = _without_tokens(chosen.sampling)
    for cell in grid(chosen):
        try:
            decode_settings(cell_settings(chosen, cell.cache, cell.threshold), sampling).check()
        except ConfigError as error:
            raise ConfigError(f"sweep, {cell.text()}: {error}") from error


def sampling_for(config: SamplingConfig, student: Student) -> Sampling:
    """The settings with tokens by their ids. Raises: ConfigError naming a token the student does not have."""
    return replace(
        _without_tokens(config),
        suppress_ids=_ids_of("suppress", config.suppress, student),
        begin_suppress_ids=_ids_of("begin_suppress", config.begin_suppress, student),
    )


def _rule(chosen: CellSettings) -> RevealRule:
    if chosen.rule is None:
        return one_per_forward(chosen.gen_length)
    given = {
        "factor" if MEANINGS[chosen.rule].word == "factor" else "threshold": chosen.threshold,
        "add": chosen.multi_block_add,
        "steps": chosen.dream_steps,
    }
    return make_rule(chosen.rule, given, chosen.gen_length)


def _without_tokens(config: SamplingConfig) -> Sampling:
    return Sampling(**config.model_dump(exclude={"suppress", "begin_suppress"}))


def _ids_of(field: str, tokens: Sequence[str | int], student: Student) -> frozenset[int]:
    family, tokenizer = student.family, student.tokenizer
    found = {token: token_id(token, family, tokenizer) for token in tokens}
    unknown = [token for token, number in found.items() if number is None]
    if unknown:
        raise ConfigError(
            f"sweep.sampling.{field}: the student has no token {', '.join(map(repr, unknown))}; expected eos,"
            f" eot, texts as in its tokenizer.json (such as {tokenizer.eos_token!r}), or ids below"
            f" {family.vocab_size}"
        )
    return frozenset(number for number in found.values() if number is not None)
