"""A random Qwen3 of a few thousand weights with the single-byte tokenizer, for real engines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from fakes.teacher import write_tokenizer

from trims_core.config import ScoresConfig
from trims_core.teacher.limits import Limits
from trims_core.teacher.protocol import Request, Scored
from trims_core.teacher.registry import make_teacher

CONTEXT = 128
VOCAB_SIZE = 272


def write_tiny_qwen3(folder: Path, seed: int = 0) -> Path:
    """The folder, with weights drawn wide enough that its predictions are far from uniform."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
    )
    write_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
        with torch.no_grad():
            model.lm_head.weight.mul_(20)
    model.save_pretrained(folder)
    return folder


def scored_by(
    kind: str, longest: int, checkpoint: Path, requests: Sequence[Request], **settings: Any
) -> dict[str, Scored]:
    """Id → reply of a started teacher of this kind, for rows of at most `longest` tokens."""
    config = ScoresConfig(model=str(checkpoint), teacher=kind, **settings)
    with closing(make_teacher(config, Limits(), checkpoint)) as teacher:
        teacher.start(longest, lambda _: None)
        return {reply.id: reply for reply in teacher.score(requests, lambda _: None)}
