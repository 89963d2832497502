"""What a checkpoint's config.json says about context, vocabulary and cache, without loading the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trims_core.errors import ConfigError

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
    """The limits of a checkpoint folder or hub model; unknown ones where it has no config.json."""
    path = Path(model) / "config.json" if Path(model).is_dir() else _from_hub(model, revision)
    if path is None or not path.is_file():
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


def _from_hub(model: str, revision: str | None) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(model, "config.json", revision=revision))
    except EntryNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"scores.model: {model} is neither a local folder nor a hub model that can be reached ({error})"
        ) from error


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
