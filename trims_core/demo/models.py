"""The demo's two models and how they are made: shapes, recipes, and `train_models`, which writes both checkpoints.

Teacher: Qwen3 (autoregressive, query and key norms), in the Hugging Face layout. Student: a masked diffusion model in LLaDA's
official layout; inside it is a Llama without the causal mask. Both are about a million parameters, stored in bfloat16.
"""

import logging
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from trims_core.demo.pretraining import Progress, Recipe, Role, Trainer
from trims_core.demo.tokenizers import student_tokenizer, teacher_tokenizer

logger = logging.getLogger(__name__)

CONTEXT_LENGTH = 4096

TEACHER_RECIPE = Recipe(
    role="teacher", styles=("base", "tuned"), steps=5000, rows=64, width=120, learning_rate=2e-3
)
STUDENT_RECIPE = Recipe(role="student", styles=("base",), steps=12000, rows=64, width=104, learning_rate=2e-3)


def new_teacher(tokenizer: PreTrainedTokenizerFast) -> nn.Module:
    """An untrained teacher for this tokenizer."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT_LENGTH,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",
    )
    return Qwen3ForCausalLM(config)


def new_student(tokenizer: PreTrainedTokenizerFast) -> nn.Module:
    """An untrained student for this tokenizer: bidirectional attention, `config.mask_token_id` set."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        mask_token_id=tokenizer.mask_token_id,
        is_causal=False,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


def new_trainer(role: Role, seed: int, work_dir: Path, recipe: Recipe | None = None) -> Trainer:
    """A trainer of the role's model, initialised from the seed."""
    make_tokenizer, make_model = (
        (teacher_tokenizer, new_teacher) if role == "teacher" else (student_tokenizer, new_student)
    )
    tokenizer = make_tokenizer(seed)
    torch.manual_seed(seed)
    model = make_model(tokenizer)
    default = TEACHER_RECIPE if role == "teacher" else STUDENT_RECIPE
    return Trainer(recipe or default, model, tokenizer, seed, work_dir)
