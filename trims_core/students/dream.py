"""The Dream family: a Qwen2 without the causal mask whose logits stand one position to the left.

Source: Dream 7B (arXiv 2508.15487); names and config keys of the published Dream-org/Dream-v0-* checkpoints,
which Dream-Coder and DiffuCoder share. Logits agree with the published program's on a tiny checkpoint
(tests/students/test_dream.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from trims_core.students.family import Family, find_mask_id, refuse_unlike

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

_MUST_BE: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "use_sliding_window": (False, None),
    "rope_scaling": (None,),
}


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
        required = (
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "vocab_size",
            "eos_token_id",
            "max_position_embeddings",
        )
        refuse_unlike("Dream", config, required, _MUST_BE, source)
        return cls(
            mask_id=find_mask_id(config, special_ids, cls.mask_token, source),
            eos_id=config["eos_token_id"],
            eot_id=config.get("eot_token_id", special_ids.get("<|im_end|>")),
            vocab_size=config["vocab_size"],
            context_length=config["max_position_embeddings"],
            n_layers=config["num_hidden_layers"],
            config=dict(config),
        )

    def hf_config(self) -> dict[str, Any]:
        c = self.config
        return {
            "vocab_size": self.vocab_size,
            "hidden_size": c["hidden_size"],
            "intermediate_size": c["intermediate_size"],
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": c["num_attention_heads"],
            "num_key_value_heads": c.get("num_key_value_heads") or c["num_attention_heads"],
            "max_position_embeddings": self.context_length,
            "rms_norm_eps": c.get("rms_norm_eps", 1e-6),
            "rope_parameters": {"rope_type": "default", "rope_theta": float(c.get("rope_theta", 10000.0))},
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
