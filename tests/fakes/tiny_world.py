"""Tiny real checkpoints and data, made in a second: what the real stages need to run end to end."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import Qwen3Config, Qwen3ForCausalLM

from trims_core.demo.tokenizers import student_tokenizer, teacher_tokenizer
from trims_core.students import save_official
from trims_core.students.llada import LladaFamily

CONTEXT = 256


def write_teacher(folder: Path, seed: int) -> Path:
    """An untrained Qwen3 teacher; another seed gives other weights and the same tokenizer."""
    tokenizer = teacher_tokenizer(0)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_student(folder: Path, seed: int) -> Path:
    """An untrained student in LLaDA's official layout."""
    tokenizer = student_tokenizer(0)
    config: dict[str, Any] = {
        "model_type": "llada",
        "d_model": 32,
        "n_layers": 1,
        "n_heads": 2,
        "mlp_hidden_size": 48,
        "vocab_size": len(tokenizer),
        "embedding_size": len(tokenizer),
        "max_sequence_length": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "weight_tying": False,
        "mask_token_id": tokenizer.mask_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    special = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    family = LladaFamily.read(config, special, "tiny")
    torch.manual_seed(seed)
    save_official(family.new_model(), config, tokenizer, folder)
    return folder


def write_world(root: Path) -> Path:
    """Data, both models and the config file of a run that takes seconds."""
    draw = random.Random(0)
    sums = [(draw.randrange(20), draw.randrange(20)) for _ in range(16)]
    train = [
        {
            "id": f"sum-{i:02d}",
            "messages": [
                {"role": "user", "content": f"Ann has {a} apples and gets {b}. How many has she?"},
                {"role": "assistant", "content": f"She has {a} + {b} = {a + b}. The answer is {a + b}."},
            ],
        }
        for i, (a, b) in enumerate(sums[:12])
    ]
    test = [
        {
            "id": f"t-{i}",
            "question": f"Ann has {a} apples and gets {b}. How many?",
            "answer": f"The answer is {a + b}.",
        }
        for i, (a, b) in enumerate(sums[12:])
    ]
    _write_lines(root / "train.jsonl", train)
    _write_lines(root / "test.jsonl", test)
    write_teacher(root / "teacher", seed=1)
    write_student(root / "student", seed=2)
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(_settings(root)))
    return path


def _settings(root: Path) -> dict[str, Any]:
    return {
        "name": "tiny",
        "store": str(root / "store"),
        "corpus": {"path": str(root / "train.jsonl"), "rows_per_shard": 6},
        "scores": {"teacher": "vllm", "model": str(root / "teacher")},
        "buckets": {"k": 4},
        "student": {"model": str(root / "student"), "device": "cpu"},
        "train": {
            "max_steps": 2,
            "batch_size": 4,
            "micro_batch_size": 4,
            "max_length": 128,
            "lora": {"r": 2, "alpha": 4},
            "validation_fraction": 0.2,
            "eval_steps": 1,
            "save_steps": 1,
        },
        "sweep": {
            "tasks": {"demo": {"benchmark": "demo", "path": str(root / "test.jsonl")}},
            "thresholds": [0.5],
            "gen_length": 8,
            "block_length": 8,
            "batch_size": 4,
        },
        "analysis": {"engine": "transformers"},  # vLLM is started once, for the scores
    }


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
