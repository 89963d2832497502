"""From options by name to the decoder's settings for one canvas. Importing this module imports torch."""

from __future__ import annotations

import re
from collections.abc import Iterable

from trims_core.decoding import CACHES, DecodeSettings, Sampling
from trims_core.errors import ConfigError
from trims_core.generation.named_rules import BLOCK_LENGTH, make_rule
from trims_core.generation.options import GenerateOptions
from trims_core.students import Student
from trims_core.students.tokenizer import token_id


def settings_for(options: GenerateOptions, student: Student, gen_length: int) -> DecodeSettings:
    """The options for a canvas of this length, every default filled in.

    Raises:
        ConfigError: options that do not fit together or the student, or a token that it does not have.
    """
    kind = options.rule_kind()
    cache, own_blocks = options.cache, student.family.block_causal_length
    if cache == "auto":
        cache = "none" if options.guidance else "exact" if own_blocks else "dual" if kind.caches else "none"
    block_length = options.block_length or min(own_blocks or BLOCK_LENGTH, gen_length)
    if options.block_length is None and not kind.has_blocks and cache == "none" and not own_blocks:
        block_length = gen_length
    given = {name: getattr(options, name) for name in kind.reads}
    settings = DecodeSettings(
        rule=make_rule(options.rule, given, gen_length),
        gen_length=gen_length,
        block_length=block_length,
        stop_at_end=options.stop_at_end,
        batch_size=options.batch_size,
        cache=CACHES[cache],
        sampling=Sampling(
            temperature=options.temperature,
            seed=options.seed,
            tempered_confidence=kind.tempered,
            top_p=options.top_p,
            top_k=options.top_k,
            guidance=options.guidance,
            suppress_ids=_ids(student, "suppress", options.suppress),
            begin_suppress_ids=_ids(student, "begin_suppress", options.begin_suppress),
        ),
        stop_strings=tuple(options.stop),
    )
    settings.check()
    settings.check_attention(student.family)
    return settings


def _ids(student: Student, option: str, names: Iterable[str]) -> frozenset[int]:
    """Token ids of `eos`, `eot`, ids (all digits), or texts of tokens."""
    found: set[int] = set()
    for name in names:
        key = int(name) if re.fullmatch("[0-9]{1,18}", name) else name
        number = token_id(key, student.family, student.tokenizer)
        if number is None:
            raise ConfigError(
                f"{option} {name!r}: the student has no such token; expected eos, eot, a token's text"
                f" such as {student.tokenizer.eos_token!r}, or an id below {student.family.vocab_size}"
            )
        found.add(number)
    return frozenset(found)
