"""A student checkpoint on disk: random weights in LLaDA's official layout, a tokenizer of single bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

SPECIAL = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<|mdm_mask|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
FIRST_SPECIAL = 256
VOCABULARY = FIRST_SPECIAL + len(SPECIAL)


def write_student(folder: Path, seed: int = 0) -> Path:
    """Writes config.json, model.safetensors and the tokenizer's files; gives back the folder."""
    import torch

    from trims_core.students import read_family, save_official

    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LLaDAModelLM"],
        "model_type": "llada",
        "d_model": 32,
        "n_heads": 2,
        "n_kv_heads": 2,
        "n_layers": 2,
        "mlp_hidden_size": 48,
        "activation_type": "silu",
        "block_type": "llama",
        "rope": True,
        "rope_theta": 10000.0,
        "layer_norm_type": "rms",
        "rms_norm_eps": 1e-5,
        "include_bias": False,
        "max_sequence_length": 256,
        "vocab_size": VOCABULARY,
        "embedding_size": VOCABULARY,
        "weight_tying": False,
        "bos_token_id": FIRST_SPECIAL,
        "eos_token_id": FIRST_SPECIAL + 1,
        "pad_token_id": FIRST_SPECIAL + 1,
        "mask_token_id": FIRST_SPECIAL + 2,
        "eot_token_id": FIRST_SPECIAL + 5,
    }
    tokenizer = byte_tokenizer()
    (folder / "config.json").write_text(json.dumps(config))
    family = read_family(folder)
    tokenizer.chat_template = family.chat_template
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = family.new_model()
        for name, parameter in model.named_parameters():
            # a steep head, so that some confidences are high
            torch.nn.init.normal_(parameter, std=2.0 if "lm_head" in name else 0.3)
    save_official(model, config, tokenizer, folder)
    return folder


def byte_tokenizer(special: Sequence[str] = SPECIAL, **named: str):
    """A fast tokenizer whose tokens are the 256 bytes and the special ones; LLaDA's if nothing is said.

    Args:
        named: bos_token, eos_token, pad_token.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    named = named or {"bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "pad_token": SPECIAL[1]}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)
