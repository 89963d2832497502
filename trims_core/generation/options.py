"""How answers are generated, in the words of a command line: the only defaults of `generate` and `chat`.

An option that the chosen rule does not read is refused, never ignored. Importing this imports no torch.
"""

from __future__ import annotations

import math
import types
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from trims_core.errors import ConfigError, nearest_name
from trims_core.generation.named_rules import BLOCK_LENGTH, READ_BY_SOME, RULES, RuleKind
from trims_core.points import CacheName

GEN_LENGTH: Final = 256
"""Canvas where neither the user nor the checkpoint says, as in the published runs."""
CACHE_NAMES: Final = ("auto", *get_args(CacheName))


def option(default: Any, help_text: str) -> Any:
    """A field with its default and what the command line says of it."""
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True)
class GenerateOptions:
    """Everything that can be chosen about a generation; None takes what the rule or the student suggests."""

    rule: str = option("threshold", f"How positions are chosen: {', '.join(RULES)} (docs/decoding.md).")
    threshold: float | None = option(
        None,
        "Confidence for threshold, pipelined, dream_official (0.9); nats for entropy, multi_block (0.5).",
    )
    steps: int | None = option(
        None,
        "Forwards per canvas: steps (= topk), eoser, dream_steps (one per position), dream_official (one per"
        " 32).",
    )
    factor: float | None = option(None, "Of factor and factor_compat (1.0).")
    gamma_min: float | None = option(
        None, "What the confidence of end tokens is first multiplied by: eoser (0.4), eoser_ass (0.01)."
    )
    add: float | None = option(
        None,
        "Share of a block revealed before the next one is worked on too: multi_block (0.1), pipelined (0.7).",
    )
    activate: float | None = option(
        None, "Share of a block revealed before each forward of pipelined reveals some of the next (0.95)."
    )
    ass_blocks: int | None = option(None, "Blocks of ass and eoser_ass (1).")
    cache: str = option(
        "auto",
        "none, prefix or dual (approximate), exact (block-causal students); auto: exact if the student has"
        " it, dual if the rule has it.",
    )
    gen_length: int | None = option(
        None, f"Positions of the canvas (max_new_tokens in generation_config.json, else {GEN_LENGTH})."
    )
    block_length: int | None = option(
        None, f"Positions of a block (a block-causal student's own, else {BLOCK_LENGTH})."
    )
    temperature: float = option(0.0, "Gumbel noise of this size; 0: the most probable token.")
    seed: int = option(0, "Of the noise; the same seed gives the same text.")
    top_p: float = option(1.0, "Propose from the smallest set of tokens of this probability.")
    top_k: int | None = option(None, "Propose from so many most probable tokens.")
    guidance: float = option(0.0, "Classifier-free guidance scale; not defined with a cache.")
    suppress: tuple[str, ...] = option(
        (), "Never propose this token: eos, eot, an id or the token's text; may be repeated."
    )
    begin_suppress: tuple[str, ...] = option((), "Reveal this token last; may be repeated.")
    stop: tuple[str, ...] = option((), "End the answer before this text; may be repeated.")
    stop_at_end: bool = option(True, "End at the end token, or decode the whole canvas.")
    batch_size: int = option(8, "Prompts decoded together; changes speed only.")

    def rule_kind(self) -> RuleKind:
        """What there is to know about the chosen rule.

        Raises:
            ConfigError: an unknown rule or cache, an option that the rule does not read, a length below 1, a
                number that is not finite, or a single text where several are expected.
        """
        if self.rule not in RULES:
            raise ConfigError(f"rule {self.rule!r}: no such rule; {nearest_name(self.rule, RULES)}")
        if self.cache not in CACHE_NAMES:
            raise ConfigError(f"cache {self.cache!r}: expected one of {', '.join(CACHE_NAMES)}")
        for name in ("gen_length", "block_length", "steps"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ConfigError(f"{name} {number}: expected at least 1, or none for the default")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{item.name} {value}: expected a finite number")
        for name in ("suppress", "begin_suppress", "stop"):
            if isinstance(text := getattr(self, name), str):
                raise ConfigError(f"{name} {text!r}: expected a tuple of texts, such as ({text!r},)")
        kind = RULES[self.rule]
        unread = [name for name in READ_BY_SOME if name not in kind.reads and getattr(self, name) is not None]
        if unread:
            raise ConfigError(
                f"{', '.join(unread)} with rule {self.rule}: not read by it, only"
                f" {', '.join(kind.reads)}; leave {unread[0]} out, or choose another rule"
            )
        return kind

    def with_text(self, name: str, text: str) -> GenerateOptions:
        """The same with one option as this text says; no text puts its default back.

        Raises:
            ConfigError: no such option, or not a value of its type.
        """
        key = name.replace("-", "_")
        by_name = {item.name: item for item in fields(self)}
        if key not in by_name:
            raise ConfigError(f"{name}: no such option; {nearest_name(key, by_name)}")
        default: Any = by_name[key].default
        value = _parsed(key, text, get_type_hints(GenerateOptions)[key]) if text else default
        change: dict[str, Any] = {key: value}
        return replace(self, **change)

    def changed(self) -> dict[str, Any]:
        """The options that are not at their defaults."""
        return {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if getattr(self, item.name) != item.default
        }


def _parsed(name: str, text: str, hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        return (text,)
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"{name} {text!r}: expected true or false")
        return text.lower() == "true"
    try:
        return hint(text)
    except ValueError as error:
        kind = "a whole number" if hint is int else "a number"
        raise ConfigError(f"{name} {text!r}: expected {kind}") from error
