"""The LLaDA family: a Llama without the causal mask, under its own weight names.

Source: LLaDA (arXiv 2502.09992); names and config keys of the published GSAI-ML/LLaDA-8B checkpoints.
Logits agree with the published program's on tiny checkpoints (tests/students/test_llada.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

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

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
"""LLaDA's template; the published one appends the assistant header even when no answer is asked for."""

_LEAVES = {
    "q_proj": ("self_attn.q_proj", "attention"),
    "k_proj": ("self_attn.k_proj", "attention"),
    "v_proj": ("self_attn.v_proj", "attention"),
    "attn_out": ("self_attn.o_proj", "attention"),
    "ff_proj": ("mlp.gate_proj", "mlp"),
    "up_proj": ("mlp.up_proj", "mlp"),
    "ff_out": ("mlp.down_proj", "mlp"),
}
_NORMS = {"attn_norm": "input_layernorm", "ff_norm": "post_attention_layernorm"}
_IN_LAYER = {**{leaf: path for leaf, (path, _) in _LEAVES.items()}, **_NORMS}
_FROM_LAYER = {path: leaf for leaf, path in _IN_LAYER.items()}
_OUTSIDE = {
    "model.transformer.wte": "model.embed_tokens",
    "model.transformer.ln_f": "model.norm",
    "model.transformer.ff_out": "lm_head",
}
_OUTSIDE_BACK = {hf: official for official, hf in _OUTSIDE.items()}

_PREFIX = r"(?P<prefix>(?:base_model\.model\.)?)"
_OFFICIAL_LAYER = re.compile(
    _PREFIX + r"model\.transformer\.blocks\.(?P<i>\d+)\.(?P<leaf>\w+)(?P<rest>(?:\..*)?)"
)
_OFFICIAL_OUTSIDE = re.compile(
    _PREFIX + r"(?P<name>model\.transformer\.(?:wte|ln_f|ff_out))(?P<rest>(?:\..*)?)"
)
_HF_LAYER = re.compile(
    _PREFIX + r"model\.layers\.(?P<i>\d+)\.(?P<leaf>(?:self_attn\.|mlp\.)?\w+)(?P<rest>(?:\..*)?)"
)
_HF_OUTSIDE = re.compile(_PREFIX + r"(?P<name>model\.embed_tokens|model\.norm|lm_head)(?P<rest>(?:\..*)?)")

_LAYOUT = Layout(
    "LLaDA",
    required={
        "d_model": COUNT,
        "n_layers": LAYERS,
        "n_heads": COUNT,
        "vocab_size": COUNT,
        "eos_token_id": TOKENS,
        "max_sequence_length": COUNT,
    },
    optional={
        "n_kv_heads": COUNT,
        "mlp_hidden_size": COUNT,
        "mlp_ratio": COUNT,
        "embedding_size": COUNT,
        "rms_norm_eps": POSITIVE,
        "weight_tying": FLAG,
        "tie_word_embeddings": FLAG,
        "multi_query_attention": FLAG,
        "attention_dropout": SHARE,
    },
    must_be={
        "block_type": ("llama",),
        "block_group_size": (1,),
        "activation_type": ("silu",),
        "layer_norm_type": ("rms",),
        "layer_norm_with_affine": (True,),
        "bias_for_layer_norm": (False, None),
        "rope": (True,),
        "alibi": (False,),
        "include_bias": (False,),
        "include_qkv_bias": (False, None),
        "attention_bias": (False, None),
        "attention_layer_norm": (False,),
        "input_emb_norm": (False,),
        "scale_logits": (False,),
        "clip_qkv": (None,),
        "residual_dropout": (0.0, None),
        "embedding_dropout": (0.0, None),
    },
    harmless=frozenset(
        {
            *("rope_full_precision", "alibi_bias_max", "attention_layer_norm_with_affine"),
            # Hugging Face's names of the sizes, which other tools add and no LLaDA program reads
            *("max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers"),
            *("num_attention_heads", "num_key_value_heads", "hidden_act"),
        }
    ),
)


@dataclass(frozen=True)
class LladaFamily(Family):
    """LLaDA-8B Base, Instruct and 1.5, and any checkpoint in their layout."""

    name: ClassVar[str] = "llada"
    chat_template: ClassVar[str] = CHAT_TEMPLATE
    mask_token: ClassVar[str] = "<|mdm_mask|>"
    hf_classes: ClassVar[tuple[str, str]] = ("LlamaConfig", "LlamaForCausalLM")

    @classmethod
    def read(cls, config: Mapping[str, Any], special_ids: Mapping[str, int], source: str) -> LladaFamily:
        """The family from config.json; the end of turn from `eot_token_id` or the tokenizer's `<|eot_id|>`.

        Raises:
            ConfigError: a key is missing, or says something that this family does not do.
        """
        _LAYOUT.check(config, source)
        check_heads(config["d_model"], config["n_heads"], _n_kv_heads(config), source)
        if config.get("tie_word_embeddings") and not config.get("weight_tying"):
            raise ConfigError(
                f"{source}: tie_word_embeddings = {config['tie_word_embeddings']!r} with weight_tying ="
                f" {config.get('weight_tying')!r}; expected weight_tying true where the head is the embedding"
            )
        eos, *more = end_ids(config)
        eot = config.get("eot_token_id")
        found = cls(
            mask_id=find_mask_id(config, special_ids, cls.mask_token, source),
            eos_id=eos,
            eot_id=special_ids.get("<|eot_id|>") if eot is None else eot,
            vocab_size=config.get("embedding_size") or config["vocab_size"],
            context_length=config["max_sequence_length"],
            n_layers=config["n_layers"],
            config=dict(config),
            more_end_ids=tuple(more),
        )
        found.refuse_ids_beyond_the_embedding(source)
        return found

    def hf_config(self) -> dict[str, Any]:
        c = {key: value for key, value in self.config.items() if value is not None}
        return {
            "vocab_size": self.vocab_size,
            "hidden_size": c["d_model"],
            "intermediate_size": c.get("mlp_hidden_size", c.get("mlp_ratio", 4) * c["d_model"]),
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": c["n_heads"],
            "num_key_value_heads": _n_kv_heads(c),
            "max_position_embeddings": self.context_length,
            "rms_norm_eps": float(c.get("rms_norm_eps", 1e-5)),
            "rope_parameters": {"rope_type": "default", "rope_theta": rope_theta(c)},
            "tie_word_embeddings": bool(c.get("weight_tying", False)),
            "attention_bias": False,
            "attention_dropout": float(c.get("attention_dropout", 0.0)),
            "mlp_bias": False,
            "bos_token_id": c.get("bos_token_id"),
            "eos_token_id": self.eos_id,
            "pad_token_id": c.get("pad_token_id", self.eos_id),
            "is_causal": False,
            "use_cache": False,
        }

    def new_model(self, state: Mapping[str, Tensor] | None = None, **options: Any) -> PreTrainedModel:
        model = super().new_model(state, **options)
        # LLaDA's program trains every row of the embedding; Hugging Face's Llama leaves out that of the pad
        model.get_input_embeddings().padding_idx = None
        return model

    @property
    def linear_leaves(self) -> Mapping[str, tuple[str, str]]:
        return _LEAVES

    @property
    def layer_patterns(self) -> tuple[str, str]:
        return r"model\.transformer\.blocks\.\d+", r"model\.layers\.\d+"

    def official_name(self, hf_name: str) -> str:
        if (match := _HF_OUTSIDE.fullmatch(hf_name)) is not None:
            return match["prefix"] + _OUTSIDE_BACK[match["name"]] + match["rest"]
        match = _HF_LAYER.fullmatch(hf_name)
        if match is None or match["leaf"] not in _FROM_LAYER:
            raise ConfigError(f"{hf_name}: no such module in a LLaDA student; expected a Llama module name")
        leaf = _FROM_LAYER[match["leaf"]]
        return f"{match['prefix']}model.transformer.blocks.{match['i']}.{leaf}{match['rest']}"

    def hf_name(self, official_name: str) -> str:
        if (match := _OFFICIAL_OUTSIDE.fullmatch(official_name)) is not None:
            return match["prefix"] + _OUTSIDE[match["name"]] + match["rest"]
        match = _OFFICIAL_LAYER.fullmatch(official_name)
        if match is None or match["leaf"] not in _IN_LAYER:
            raise ConfigError(
                f"{official_name}: no such module in a LLaDA checkpoint of the published layout"
            )
        return f"{match['prefix']}model.layers.{match['i']}.{_IN_LAYER[match['leaf']]}{match['rest']}"


def _n_kv_heads(config: Mapping[str, Any]) -> int:
    return config.get("n_kv_heads") or (1 if config.get("multi_query_attention") else config["n_heads"])
