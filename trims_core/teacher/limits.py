"""What a checkpoint's config.json says about context, vocabulary and cache, without loading the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trims_core.errors import ConfigError
from trims_core.hub import checkpoint_folder
from trims_core.json_files import read_object

_CONTEXT_NAMES: Final = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a model reads; None where config.json does not say."""

    context: int | None = None
    """Tokens."""
    vocab_size: int | None = None
    cache_values_per_token: int | None = None
    """Numbers the key-value cache holds per token."""


def read_limits(model: str, revision: str | None) -> Limits:
    """The limits of a checkpoint folder or hub model; unknown ones where it has no config.json.

    Raises:
        ConfigError: config.json is no JSON object, or the hub does not give it.
    """
    path = checkpoint_folder(model, revision, ["config.json"]) / "config.json"
    if not path.is_file():
        return Limits()
    config = read_object(path, "the config.json of a checkpoint")
    inner = config.get("text_config")
    text = inner if isinstance(inner, dict) and inner else config
    numbers = {key: value for key, value in text.items() if type(value) is int and value > 0}
    context = next((numbers[name] for name in _CONTEXT_NAMES if name in numbers), None)
    is_llada = str(text.get("model_type")).lower() == "llada"
    return Limits(context, _vocab_size(numbers, is_llada), _cache_values(numbers))


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
            f" {limits.context} tokens; set at most {limits.context}, or leave it out"
        )
    return max_model_len


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
