"""What a checkpoint's config.json says about context, vocabulary and cache, without loading the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trims_core.errors import ConfigError
from trims_core.hub import checkpoint_folder

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
        ConfigError: config.json is no JSON, or the hub does not give it.
    """
    path = checkpoint_folder(model, revision, ["config.json"]) / "config.json"
    if not path.is_file():
        return Limits()
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON ({error}); fetch the checkpoint again") from error
    text = config.get("text_config") or config
    context = next((text[name] for name in _CONTEXT_NAMES if isinstance(text.get(name), int)), None)
    return Limits(context, _vocab_size(text), _cache_values(text))


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


def _vocab_size(text: Mapping[str, Any]) -> int | None:
    """Rows of the embedding, which LLaDA's configuration may count apart from the vocabulary."""
    rows = text.get("embedding_size") if str(text.get("model_type")).lower() == "llada" else None
    size: int | None = rows or text.get("vocab_size")
    return size


def _cache_values(text: Mapping[str, Any]) -> int | None:
    layers, heads = text.get("num_hidden_layers"), text.get("num_attention_heads")
    if not layers or not heads:
        return None
    head_dim = text.get("head_dim") or text.get("hidden_size", 0) // heads
    return 2 * int(layers) * int(text.get("num_key_value_heads") or heads) * int(head_dim)
