"""A tiny random Dream checkpoint in the official layout, and Dream's tokenizer files as published."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import torch
from fakes.decoding_checkpoint import byte_tokenizer

CONFIG: dict[str, Any] = {
    "architectures": ["DreamModel"],
    "model_type": "Dream",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "vocab_size": 48,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "mask_token_id": 38,
    "eos_token_id": 37,
    "pad_token_id": 37,
    "bos_token_id": 36,
}


SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|beginoftext|>", "<|mask|>")


def write_dream(folder: Path, seed: int = 0, with_tokenizer: bool = False) -> Path:
    """Writes config.json and model.safetensors, biases of q, k and v far from zero; gives back the folder.

    With a tokenizer (of bytes) the vocabulary has room for it.
    """
    from trims_core.students import read_family, save_official

    folder.mkdir(parents=True, exist_ok=True)
    ends = {"eos_token": SPECIAL[0], "pad_token": SPECIAL[0]}
    tokenizer = byte_tokenizer(SPECIAL, **ends) if with_tokenizer else None
    config = CONFIG if tokenizer is None else {**CONFIG, **_ids(tokenizer)}
    (folder / "config.json").write_text(json.dumps(config))
    family = read_family(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = family.new_model()
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                torch.nn.init.normal_(parameter, std=0.3)
    save_official(model, config, tokenizer, folder)
    return folder


def _ids(tokenizer: Any) -> dict[str, int]:
    eos, _, _, bos, mask = tokenizer.convert_tokens_to_ids(list(SPECIAL))
    ids = {"eos_token_id": eos, "pad_token_id": eos, "bos_token_id": bos, "mask_token_id": mask}
    return {"vocab_size": len(tokenizer) + 3, **ids}


def write_published_tokenizer(folder: Path, shared_data: Path) -> Path:
    """vocab.json, merges.txt and a tokenizer_config.json that asks for Dream's own tokenizer program."""
    source = shared_data / "data" / "tokenizers" / "qwen2"
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes(gzip.decompress((source / f"{name}.gz").read_bytes()))
    added = json.loads((source / "added_tokens_by_family.json").read_text())["dream"]
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    settings = json.loads((source / "tokenizer_config.json").read_text())
    settings |= {
        "tokenizer_class": "DreamTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]},
        "bos_token": "<|beginoftext|>",
        "added_tokens_decoder": {
            str(token["id"]): {"content": token["content"], "special": token["special"], **plain}
            for token in added
        },
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    ids = {"vocab_size": 152064, "mask_token_id": 151666, "eos_token_id": 151643, "pad_token_id": 151643}
    ids |= {"bos_token_id": 151665}
    (folder / "config.json").write_text(json.dumps({**CONFIG, **ids, "transformers_version": "4.46.2"}))
    return folder
