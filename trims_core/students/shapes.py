"""Students of the published sizes with random weights: what benchmarks and memory estimates need.

Source: config.json of GSAI-ML/LLaDA-8B-* and Dream-org/Dream-v0-*-7B; the parameter counts that follow are
checked in tests/students/test_shapes.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from trims_core.errors import ConfigError
from trims_core.students.dream import DreamFamily
from trims_core.students.family import Family
from trims_core.students.llada import LladaFamily
from trims_core.students.loading import Student

_LLADA_8B: Final = {
    "architectures": ["LLaDAModelLM"],
    "model_type": "llada",
    "d_model": 4096,
    "n_layers": 32,
    "n_heads": 32,
    "n_kv_heads": 32,
    "mlp_hidden_size": 12288,
    "block_type": "llama",
    "activation_type": "silu",
    "layer_norm_type": "rms",
    "rms_norm_eps": 1e-5,
    "rope": True,
    "rope_theta": 500000.0,
    "max_sequence_length": 4096,
    "vocab_size": 126464,
    "embedding_size": 126464,
    "weight_tying": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "bos_token_id": 126080,
    "eos_token_id": 126081,
    "pad_token_id": 126081,
    "mask_token_id": 126336,
    "eot_token_id": 126348,
}
_DREAM_7B: Final = {
    "architectures": ["DreamModel"],
    "model_type": "Dream",
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "max_position_embeddings": 131072,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "bos_token_id": 151665,
    "eos_token_id": 151643,
    "pad_token_id": 151643,
    "mask_token_id": 151666,
    "eot_token_id": 151645,
}


@dataclass(frozen=True)
class _Shape:
    family: type[Family]
    config: Mapping[str, Any]
    keys: tuple[str, str, str, str, str]
    """The config.json names of layers, width, MLP width, heads, key-value heads."""


SHAPES: Final = {
    "llada-8b": _Shape(
        LladaFamily, _LLADA_8B, ("n_layers", "d_model", "mlp_hidden_size", "n_heads", "n_kv_heads")
    ),
    "dream-7b": _Shape(
        DreamFamily,
        _DREAM_7B,
        (
            "num_hidden_layers",
            "hidden_size",
            "intermediate_size",
            "num_attention_heads",
            "num_key_value_heads",
        ),
    ),
}
"""The published shapes by name; vocabulary, ids and constants stay as published whatever is overridden."""


def family_of_shape(
    shape: str,
    *,
    n_layers: int | None = None,
    width: int | None = None,
    mlp_width: int | None = None,
    n_heads: int | None = None,
    n_kv_heads: int | None = None,
) -> Family:
    """The family with a published shape's config.json, sizes overridden where given.

    Args:
        width: hidden size; heads of the published size (128) follow from it unless `n_heads` is given.
        n_kv_heads: default: as many heads per key-value head as published, at least one in all.

    Raises:
        ConfigError: an unknown shape, or heads that do not divide.
    """
    if shape not in SHAPES:
        raise ConfigError(f"shape {shape!r} is not known; expected one of {', '.join(SHAPES)}")
    known = SHAPES[shape]
    layers_key, width_key, mlp_key, heads_key, kv_key = known.keys
    published = known.config
    config = dict(published)
    config[width_key] = width or published[width_key]
    head_size = published[width_key] // published[heads_key]
    config[heads_key] = n_heads or max(1, config[width_key] // head_size)
    per_kv_head = published[heads_key] // published[kv_key]
    config[kv_key] = n_kv_heads or max(1, config[heads_key] // per_kv_head)
    config[layers_key] = n_layers or published[layers_key]
    config[mlp_key] = mlp_width or published[mlp_key]
    if config[width_key] % config[heads_key] or config[heads_key] % config[kv_key]:
        raise ConfigError(
            f"shape {shape}: width {config[width_key]}, {config[heads_key]} heads, {config[kv_key]} key-value"
            " heads do not divide; give n_heads that divides the width and n_kv_heads that divides n_heads"
        )
    return known.family.read(config, {}, f"shape {shape}")


def random_student(
    shape: str, *, dtype: str = "float32", device: str = "cpu", seed: int = 0, **sizes: int
) -> Student:
    """A student of a published shape with random weights and no tokenizer, in evaluation mode.

    Args:
        shape: llada-8b or dream-7b.
        dtype: a torch dtype's name.
        device: where the weights are made; "meta" makes none, which takes a second at any size.
        sizes: overrides, see `family_of_shape`.

    Raises:
        ConfigError: an unknown shape, or sizes that do not fit together.
    """
    family = family_of_shape(shape, **sizes)
    place = torch.device(device)
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(seed)
        with place:
            module = family.new_model(dtype=getattr(torch, dtype))
    module.eval()
    return Student(module, family)
