"""The Dream family: a Qwen2 without the causal mask whose logits stand one position to the left.

Source: Dream 7B (arXiv 2508.15487); names and config keys of the published Dream-org/Dream-v0-* checkpoints,
which Dream-Coder and DiffuCoder share. Logits agree with the published program's on a tiny checkpoint
(tests/students/test_dream.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from trims_core.errors import ConfigError
from trims_core.students.config_json import (
    COUNT,
    FLAG,
    LAYERS,
    POSITIVE,
    SHARE,
    TOKENS,
    Layout,
    check_heads,
    end_ids,
    rope_theta,
)
from trims_core.students.family import Family, find_mask_id

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Qwen2.5's conversation with Dream's default system prompt (tools are not covered)."""

_LEAVES = {
    **{f"self_attn.{leaf}": "attention" for leaf in ("q_proj", "k_proj", "v_proj", "o_proj")},
    **{f"mlp.{leaf}": "mlp" for leaf in ("gate_proj", "up_proj", "down_proj")},
}

_LAYOUT = Layout(
    "Dream",
    required={
        "hidden_size": COUNT,
        "intermediate_size": COUNT,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": COUNT,
        "vocab_size": COUNT,
        "eos_token_id": TOKENS,
        "max_position_embeddings": COUNT,
    },
    optional={
        "num_key_value_heads": COUNT,
        "rms_norm_eps": POSITIVE,
        "tie_word_embeddings": FLAG,
        "attention_dropout": SHARE,
        "head_dim": COUNT,
    },
    must_be={
        "hidden_act": ("silu",),
        "use_sliding_window": (False, None),
        "attention_bias": (True, None),
    },
    harmless=frozenset({"sliding_window", "max_window_layers", "layer_types"}),
)


@dataclass(frozen=True)
class DreamFamily(Family):
    """Dream-7B Base and Instruct, Dream-Coder, DiffuCoder, and any checkpoint in their layout.

    The output at a position predicts the next one, as in the autoregressive model Dream was made from:
    `lookback` is all that the rest of the program needs to know about it.
    """

    name: ClassVar[str] = "dream"
    chat_template: ClassVar[str] = CHAT_TEMPLATE
    mask_token: ClassVar[str] = "<|mask|>"
    lookback: ClassVar[int] = 1
    hf_classes: ClassVar[tuple[str, str]] = ("Qwen2Config", "Qwen2ForCausalLM")

    @classmethod
    def read(cls, config: Mapping[str, Any], special_ids: Mapping[str, int], source: str) -> DreamFamily:
        """The family from config.json; the end of turn from `eot_token_id` or the tokenizer's `<|im_end|>`.

        Raises:
            ConfigError: a key is missing, or says something that this family does not do.
        """
        _LAYOUT.check(config, source)
        _refuse_other_attention(config, source)
        eos, *more = end_ids(config)
        eot = config.get("eot_token_id")
        found = cls(
            mask_id=find_mask_id(config, special_ids, cls.mask_token, source),
            eos_id=eos,
            eot_id=special_ids.get("<|im_end|>") if eot is None else eot,
            vocab_size=config["vocab_size"],
            context_length=config["max_position_embeddings"],
            n_layers=config["num_hidden_layers"],
            config=dict(config),
            more_end_ids=tuple(more),
        )
        found.refuse_ids_beyond_the_embedding(source)
        return found

    def hf_config(self) -> dict[str, Any]:
        c = {key: value for key, value in self.config.items() if value is not None}
        return {
            "vocab_size": self.vocab_size,
            "hidden_size": c["hidden_size"],
            "intermediate_size": c["intermediate_size"],
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": c["num_attention_heads"],
            "num_key_value_heads": c.get("num_key_value_heads", c["num_attention_heads"]),
            "max_position_embeddings": self.context_length,
            "rms_norm_eps": float(c.get("rms_norm_eps", 1e-6)),
            "rope_parameters": {"rope_type": "default", "rope_theta": rope_theta(c)},
            "tie_word_embeddings": bool(c.get("tie_word_embeddings", False)),
            "attention_dropout": float(c.get("attention_dropout", 0.0)),
            "use_sliding_window": False,
            "bos_token_id": c.get("bos_token_id"),
            "eos_token_id": self.eos_id,
            "pad_token_id": c.get("pad_token_id", self.eos_id),
            "is_causal": False,
            "use_cache": False,
        }

    @property
    def linear_leaves(self) -> Mapping[str, tuple[str, str]]:
        return {leaf: (leaf, kind) for leaf, kind in _LEAVES.items()}

    @property
    def layer_patterns(self) -> tuple[str, str]:
        return r"model\.layers\.\d+", r"model\.layers\.\d+"


def _refuse_other_attention(config: Mapping[str, Any], source: str) -> None:
    """Raises ConfigError for heads that do not divide, or layers that do not attend to everything."""
    width, n_heads = config["hidden_size"], config["num_attention_heads"]
    check_heads(width, n_heads, config.get("num_key_value_heads") or n_heads, source)
    if config.get("head_dim") not in (None, width // n_heads):
        raise ConfigError(
            f"{source}: head_dim = {config['head_dim']!r}; expected hidden_size / num_attention_heads,"
            f" {width // n_heads}"
        )
    layers = config.get("layer_types")
    if layers is not None and layers != ["full_attention"] * config["num_hidden_layers"]:
        raise ConfigError(
            f"{source}: layer_types = {str(layers)[:60]}; expected full_attention for each of the"
            f" {config['num_hidden_layers']} layers"
        )
