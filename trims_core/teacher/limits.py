"""What a checkpoint's config.json says about context, vocabulary and cache, without loading the model.

Engine options that change config.json (`hf_overrides`, `rope_scaling`) are applied to it first, so that the
limits are the engine's. The context is how far the position encoding reaches: max_position_embeddings, or
with a rotary encoding that is scaled by a factor as many times what it was trained for.
Source: Hugging Face's keys; types as in transformers' modeling_rope_utils.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trims_core.errors import ConfigError
from trims_core.hub import checkpoint_folder
from trims_core.text_files import object_of

ROPE_NAMES: Final = ("rope_parameters", "rope_scaling")
_SCALED: Final = ("linear", "dynamic", "yarn")
"""Types whose factor counts; of the others max_position_embeddings is the whole reach."""
_CONTEXT_NAMES: Final = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


MORE_CONTEXT: Final = (
    "Teacher vllm reads further with scores.options.hf_overrides: {rope_parameters: {rope_type: yarn,"
    " factor: F, original_max_position_embeddings: N, rope_theta: as in config.json}}, up to F × N tokens"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a model reads; None where config.json does not say."""

    context: int | None = None
    """Tokens."""
    vocab_size: int | None = None
    cache_values_per_token: int | None = None
    """Numbers the key-value cache holds per token."""


def read_limits(model: str, revision: str | None, overrides: Mapping[str, Any] | None = None) -> Limits:
    """The limits of a checkpoint folder or hub model; unknown ones where it has no config.json.

    Args:
        overrides: what the engine is told to put in place of values of config.json.

    Raises:
        ConfigError: config.json is no JSON object, or the hub does not give it.
    """
    path = checkpoint_folder(model, revision, ["config.json"]) / "config.json"
    if not path.is_file():
        return Limits()
    config = _overridden(object_of(path, "the config.json of a checkpoint"), overrides or {})
    inner = config.get("text_config")
    text = inner if isinstance(inner, dict) and inner else config
    numbers = {key: value for key, value in text.items() if type(value) is int and value > 0}
    is_llada = str(text.get("model_type")).lower() == "llada"
    return Limits(_context(text, numbers), _vocab_size(numbers, is_llada), _cache_values(numbers))


def engine_overrides(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of an engine's options stands in place of values of config.json.

    Raises:
        ConfigError: hf_overrides is no mapping.
    """
    given = options.get("hf_overrides") or {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"scores.options.hf_overrides: {given!r}; expected a mapping of config.json's keys, such as"
            " {rope_parameters: {rope_type: yarn, factor: 4.0, original_max_position_embeddings: 32768}}"
        )
    return {**given, **{name: options[name] for name in ROPE_NAMES if options.get(name)}}


def context_limit(limits: Limits, max_model_len: int | None) -> int | None:
    """Longest allowed row in tokens.

    Raises:
        ConfigError: `max_model_len` is more than the model can read.
    """
    if max_model_len is None:
        return limits.context
    if limits.context is not None and max_model_len > limits.context:
        raise ConfigError(
            f"scores.max_model_len: {max_model_len} is more than the teacher's context of"
            f" {limits.context} tokens; set at most {limits.context}, or leave it out. {MORE_CONTEXT}"
        )
    return max_model_len


def _overridden(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """config.json with some values replaced; sections inside are merged, as engines do."""
    merged = dict(config)
    for name, value in overrides.items():
        inside = merged.get(name)
        if isinstance(inside, Mapping) and isinstance(value, Mapping) and name not in ROPE_NAMES:
            value = _overridden(inside, value)
        merged[name] = value
    return merged


def _context(text: Mapping[str, Any], numbers: Mapping[str, int]) -> int | None:
    """Tokens that positions reach; None where config.json does not say."""
    trained = next((numbers[name] for name in _CONTEXT_NAMES if name in numbers), None)
    if trained is None:
        return None
    rope: Mapping[str, Any] = next(
        (text[name] for name in ROPE_NAMES if isinstance(text.get(name), Mapping)), {}
    )
    layers = [one for one in rope.values() if isinstance(one, Mapping)] or [rope]  # per kind of layer, or one
    reach = [trained]
    for one in layers:
        factor = one.get("factor")
        if (one.get("rope_type") or one.get("type")) in _SCALED and isinstance(factor, int | float):
            reach.append(int((one.get("original_max_position_embeddings") or trained) * factor))
    return max(reach)


def _vocab_size(numbers: Mapping[str, int], is_llada: bool) -> int | None:
    """Rows of the embedding, which LLaDA's configuration may count apart from the vocabulary."""
    rows = numbers.get("embedding_size") if is_llada else None
    return rows or numbers.get("vocab_size")


def _cache_values(numbers: Mapping[str, int]) -> int | None:
    layers, heads = numbers.get("num_hidden_layers"), numbers.get("num_attention_heads")
    if not layers or not heads:
        return None
    head_dim = numbers.get("head_dim") or numbers.get("hidden_size", 0) // heads
    return 2 * layers * numbers.get("num_key_value_heads", heads) * head_dim
