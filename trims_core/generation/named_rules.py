"""Reveal rules by name: which options each one reads, and how it is made of them. Importing this is light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trims_core.errors import ConfigError

if TYPE_CHECKING:
    from trims_core.decoding import RevealRule

BLOCK_LENGTH: Final = 32
"""As in the published runs of threshold decoding."""

Value = float | int | None


@dataclass(frozen=True)
class RuleKind:
    """What a rule reads, and how it is used where nothing else is said."""

    reads: Mapping[str, Value]
    """Option -> its default; None where that depends on the canvas."""
    caches: bool = False
    """`cache: auto` means dual; the others are published without a cache, or not defined on one. With a
    block-causal student auto means exact for all."""
    has_blocks: bool = True
    """False: without a cache its one block is the canvas."""
    tempered: bool = False
    """Confidence is that of the softmax at the temperature."""


_STEPS: Final = RuleKind({"steps": None, "block_length": None}, caches=True)

RULES: Final[Mapping[str, RuleKind]] = {
    "threshold": RuleKind({"threshold": 0.9, "block_length": None}, caches=True),
    "topk": _STEPS,
    "steps": _STEPS,
    "factor": RuleKind({"factor": 1.0, "block_length": None}, caches=True),
    "factor_compat": RuleKind({"factor": 1.0, "block_length": None}, caches=True),
    "entropy": RuleKind({"threshold": 0.5, "block_length": None}, caches=True),
    "multi_block": RuleKind({"threshold": 0.5, "add": 0.1, "block_length": None}),
    "pipelined": RuleKind({"threshold": 0.9, "add": 0.7, "activate": 0.95, "block_length": None}),
    "eoser": RuleKind({"steps": None, "gamma_min": 0.4, "block_length": None}),
    "ass": RuleKind({"ass_blocks": 1}, has_blocks=False),
    "eoser_ass": RuleKind({"ass_blocks": 1, "gamma_min": 0.01}, has_blocks=False),
    "dream_steps": RuleKind({"steps": None, "block_length": None}, has_blocks=False, tempered=True),
    "dream_official": RuleKind(
        {"threshold": 0.9, "steps": None, "block_length": None}, has_blocks=False, tempered=True
    ),
}
"""The names of `--rule`; `steps`, as settings files call it, is `topk`."""

READ_BY_SOME: Final = tuple(dict.fromkeys(name for kind in RULES.values() for name in kind.reads))
"""Options that only some rules read."""


def make_rule(name: str, given: Mapping[str, Value], gen_length: int) -> RevealRule:
    """The rule of this name.

    Args:
        given: values of options it reads; None for the default.
        gen_length: decides the default steps: one per position, for dream_official one per 32 positions
            (a quota of 32 per forward, as published).

    Raises:
        ConfigError: an unknown rule.
    """
    from trims_core import decoding

    if name not in RULES:
        raise ConfigError(f"rule {name!r}: expected one of {', '.join(RULES)}")
    value: dict[str, Any] = {
        key: default if given.get(key) is None else given[key] for key, default in RULES[name].reads.items()
    }
    steps = value.get("steps") or gen_length
    match name:
        case "threshold":
            return decoding.Threshold(value["threshold"])
        case "factor" | "factor_compat":
            return decoding.Factor(value["factor"], compat=name == "factor_compat")
        case "entropy":
            return decoding.EntropyThreshold(value["threshold"])
        case "multi_block":
            return decoding.MultiBlock(value["threshold"], value["add"])
        case "pipelined":
            return decoding.Pipelined(value["threshold"], value["add"], value["activate"])
        case "eoser":
            return decoding.Eoser(decoding.TopK(steps), value["gamma_min"])
        case "ass":
            return decoding.Ass(value["ass_blocks"])
        case "eoser_ass":
            return decoding.Eoser(decoding.Ass(value["ass_blocks"]), value["gamma_min"])
        case "dream_steps":
            return decoding.DreamSteps(steps)
        case "dream_official":
            quota_steps = value["steps"] or max(1, gen_length // BLOCK_LENGTH)
            return decoding.DreamThreshold(value["threshold"], quota_steps)
    return decoding.TopK(steps)
