"""What a student's config.json may say: types and ranges of what is read, and keys that change the network.

A key that a family neither reads nor knows to be harmless is refused, unless it is off (null, false or
empty): it may describe another network than the one that would be built. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from trims_core.block_causal import BLOCK_CAUSAL
from trims_core.errors import ConfigError


class Kind(NamedTuple):
    """The values a key may have."""

    expected: str
    fits: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a number that float holds."""
    return (_is_whole(value) and abs(value) < 1 << 63) or (isinstance(value, float) and math.isfinite(value))


def _is_token(value: Any) -> bool:
    return _is_whole(value) and value >= 0


COUNT: Final = Kind("a whole number from 1", lambda value: _is_whole(value) and 0 < value < 1 << 31)
LAYERS: Final = Kind("a whole number from 1 to 9999", lambda value: _is_whole(value) and 0 < value < 10_000)
POSITIVE: Final = Kind("a number above 0", lambda value: is_number(value) and value > 0)
SHARE: Final = Kind("a number from 0 to below 1", lambda value: is_number(value) and 0 <= value < 1)
FLAG: Final = Kind("true or false", lambda value: isinstance(value, bool))
TOKEN: Final = Kind("a token id, a whole number from 0", _is_token)
TOKENS: Final = Kind(
    "a token id or a list of them",
    lambda value: (
        _is_token(value) or (isinstance(value, list) and bool(value) and all(map(_is_token, value)))
    ),
)

_SPECIAL: Final = {
    **dict.fromkeys(("mask_token_id", "eot_token_id", "bos_token_id", "pad_token_id"), TOKEN),
    BLOCK_CAUSAL: COUNT,
}
_ROPE: Final = ("rope_theta", "rope_parameters", "rope_scaling")
_OFF: Final[tuple[Any, ...]] = (None, False, "", [], {})
_EVERYWHERE_OFF: Final[Mapping[str, tuple[Any, ...]]] = {
    "quantization_config": (None,),
    "is_causal": (False, None),
    "is_encoder_decoder": (False, None),
    "mlp_bias": (False, None),
    "partial_rotary_factor": (None, 1),
    "use_mrope": (False, None),
}
_HARMLESS: Final = frozenset(
    {
        *("model_type", "architectures", "auto_map", "transformers_version", "torch_dtype", "dtype"),
        *("initializer_range", "init_device", "init_fn", "init_std", "init_cutoff_factor", "precision"),
        *("use_cache", "cache_implementation", "attn_implementation", "flash_attention", "torchscript"),
        *("return_dict", "return_dict_in_generate", "output_attentions", "output_hidden_states"),
        *("output_scores", "use_bfloat16", "tf_legacy_loss", "chunk_size_feed_forward", "pretraining_tp"),
        *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params"),
        *("tokenizer_class", "prefix", "sep_token_id", "decoder_start_token_id", "is_decoder"),
        *("suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id"),
        *("do_sample", "temperature", "top_k", "top_p", "typical_p", "num_beams", "num_beam_groups"),
        *("max_length", "min_length", "early_stopping", "length_penalty", "repetition_penalty"),
        *("diversity_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids"),
        *("num_return_sequences", "exponential_decay_length_penalty", "remove_invalid_values"),
        *("unsloth_version", "unsloth_fixed"),
    }
)
"""What transformers writes into every config.json, and how weights were made or stored; those that begin with
an underscore are harmless too."""


@dataclass(frozen=True)
class Layout:
    """What a family reads of config.json. An optional key that is null counts as absent."""

    name: str
    required: Mapping[str, Kind]
    optional: Mapping[str, Kind]
    must_be: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Key -> its possible values, the usual one first; an absent key is fine."""
    harmless: frozenset[str] = frozenset()

    def check(self, config: Mapping[str, Any], source: str) -> None:
        """Raises ConfigError with all that is wrong in a config.json."""
        must_be = {**_EVERYWHERE_OFF, **self.must_be}
        optional = {**_SPECIAL, **self.optional}
        missing = [key for key in self.required if config.get(key) is None]
        typed = {**self.required, **optional}
        wrong = [
            f"{key} = {_shown(config[key])} (expected {kind.expected})"
            for key, kind in typed.items()
            if config.get(key) is not None and not kind.fits(config[key])
        ]
        odd = [
            f"{key} = {_shown(config[key])} (expected {allowed[0]!r})"
            for key, allowed in must_be.items()
            if key in config and config[key] not in allowed
        ]
        known = {*typed, *must_be, *_ROPE, *_HARMLESS, *self.harmless}
        unknown = [
            f"{key} = {_shown(value)}"
            for key, value in config.items()
            if key not in known and not key.startswith("_") and value not in _OFF
        ]
        said = [
            (f"{', '.join(missing)} missing or null", missing),
            ("; ".join(wrong), wrong),
            (f"not a {self.name} of the published kind: {'; '.join(odd)}", odd),
            (
                f"unknown keys that may change the network: {', '.join(unknown)}. Remove them from"
                " config.json if they do not",
                unknown,
            ),
        ]
        if any(found for _, found in said):
            problems = ". ".join(text for text, found in said if found)
            raise ConfigError(f"{source}: {problems}. Expected a {self.name} config.json")
        rope_theta(config, source)


def rope_theta(config: Mapping[str, Any], source: str = "config.json") -> float:
    """The base of the rotary positions, from `rope_theta`, or `rope_parameters` as transformers 5 writes it.

    Raises:
        ConfigError: none or two values, or positions that are scaled.
    """
    found = {"rope_theta": config["rope_theta"]} if "rope_theta" in config else {}
    for name in ("rope_parameters", "rope_scaling"):
        section = config.get(name)
        if section in (None, {}):
            continue
        if not isinstance(section, Mapping):
            raise ConfigError(f"{source}: {name} = {_shown(section)}; expected null or an object")
        _refuse_scaling(name, section, source)
        if "rope_theta" in section:
            found[f"{name}.rope_theta"] = section["rope_theta"]
    given = {key: value for key, value in found.items() if value is not None}
    if found and not given:
        raise ConfigError(
            f"{source}: {next(iter(found))} is null; expected {POSITIVE.expected}, or no such key"
        )
    for key, value in given.items():
        if not POSITIVE.fits(value):
            raise ConfigError(f"{source}: {key} = {_shown(value)}; expected {POSITIVE.expected}")
    if len(set(given.values())) > 1:
        said = " and ".join(f"{key} = {value!r}" for key, value in given.items())
        raise ConfigError(f"{source}: {said} are two values of one thing; remove the wrong one")
    return float(next(iter(given.values()), 10000.0))


def _refuse_scaling(name: str, section: Mapping[str, Any], source: str) -> None:
    odd = [
        f"{name}.{key} = {_shown(value)}"
        for key, value in section.items()
        if not (
            value is None
            or key == "rope_theta"
            or (key in ("rope_type", "type") and value == "default")
            or (key == "partial_rotary_factor" and value == 1)
        )
    ]
    if odd:
        raise ConfigError(
            f"{source}: {', '.join(odd)}; expected plain rotary positions (rope_type default): scaled"
            " ones are not supported"
        )


def check_heads(width: int, n_heads: int, n_kv_heads: int, source: str) -> None:
    """Raises ConfigError where attention heads do not divide the width, or not in pairs of numbers."""
    if width % n_heads or width // n_heads % 2 or n_heads % n_kv_heads:
        raise ConfigError(
            f"{source}: width {width}, {n_heads} heads and {n_kv_heads} key-value heads do not divide;"
            " expected heads of an even size, and as many or a divisor of them for keys and values"
        )


def end_ids(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The ids in a checked `eos_token_id`, in their order, each once."""
    ids = config["eos_token_id"]
    return tuple(dict.fromkeys(ids if isinstance(ids, list) else [ids]))


def refuse_ids_beyond(n_rows: int, ids: Mapping[str, int | Iterable[int] | None], source: str) -> None:
    """Raises ConfigError where an id has no row in the embedding.

    Args:
        ids: what an id is called -> the id, several, or None.
    """
    beyond = [
        f"{name} = {number}"
        for name, some in ids.items()
        for number in (() if some is None else some if isinstance(some, Iterable) else (some,))
        if number >= n_rows
    ]
    if beyond:
        shown = ", ".join([*beyond[:5], *(["…"] if len(beyond) > 5 else [])])
        raise ConfigError(
            f"{source}: {shown}: beyond the embedding, which has {n_rows} rows; expected ids"
            f" below {n_rows}. Correct the id, or the size of the vocabulary"
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
