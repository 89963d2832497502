"""The demo's two models and how they are made: shapes, recipes, and `train_models`, which writes both
checkpoints.

Teacher: Qwen3 (autoregressive, query and key norms), in the Hugging Face layout. Student: a masked
diffusion model in LLaDA's official layout; inside it is a Llama without the causal mask. Both have about
a million parameters and are stored in bfloat16.
"""

import json
import logging
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from torch import distributed
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from trims_core.demo.cards import model_card
from trims_core.demo.measurements import CANVAS, measure_student, measure_teacher
from trims_core.demo.pretraining import ALONE, Progress, Recipe, Role, Share, Trainer
from trims_core.demo.tokenizers import student_tokenizer, teacher_tokenizer
from trims_core.students import save_official
from trims_core.students.llada import LladaFamily
from trims_core.students.tokenizer import save_tokenizer

logger = logging.getLogger(__name__)

CONTEXT_LENGTH = 4096
HIDDEN_SIZE = 128
MLP_SIZE = 320
N_HEADS = 4

TEACHER_RECIPE = Recipe(role="teacher", styles=("wide",), steps=700, rows=64, width=120, learning_rate=2e-3)
STUDENT_RECIPE = Recipe(
    role="student",
    styles=("base",),
    steps=9500,
    rows=64,
    width=104,
    learning_rate=2e-3,
    sums_in_order_from=4544,
    polish_steps=2500,
)
RECIPES: dict[Role, Recipe] = {"teacher": TEACHER_RECIPE, "student": STUDENT_RECIPE}


def new_teacher(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """An untrained teacher for this tokenizer."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN_SIZE,
        intermediate_size=MLP_SIZE,
        num_hidden_layers=4,
        num_attention_heads=N_HEADS,
        num_key_value_heads=2,
        head_dim=HIDDEN_SIZE // N_HEADS,
        max_position_embeddings=CONTEXT_LENGTH,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM._from_config(config, attn_implementation="eager")


def student_family(tokenizer: PreTrainedTokenizerFast) -> LladaFamily:
    """The student's family: LLaDA's config keys with this tokenizer's own ids."""
    config: dict[str, Any] = {
        "architectures": ["LLaDAModelLM"],
        "model_type": "llada",
        "d_model": HIDDEN_SIZE,
        "n_layers": 5,
        "n_heads": N_HEADS,
        "n_kv_heads": N_HEADS,
        "mlp_hidden_size": MLP_SIZE,
        "mlp_ratio": 4,
        "block_type": "llama",
        "block_group_size": 1,
        "activation_type": "silu",
        "layer_norm_type": "rms",
        "rms_norm_eps": 1e-5,
        "attention_layer_norm": False,
        "input_emb_norm": False,
        "include_bias": False,
        "include_qkv_bias": False,
        "scale_logits": False,
        "weight_tying": False,
        "alibi": False,
        "rope": True,
        "rope_full_precision": True,
        "rope_theta": 10000.0,
        "flash_attention": False,
        "max_sequence_length": CONTEXT_LENGTH,
        "vocab_size": len(tokenizer),
        "embedding_size": len(tokenizer),
        "mask_token_id": tokenizer.mask_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "eot_token_id": tokenizer.convert_tokens_to_ids("<|eot_id|>"),
        "pad_token_id": tokenizer.pad_token_id,
        "torch_dtype": "bfloat16",
    }
    return LladaFamily.read(config, {}, "the demo student's config")


def new_student(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """An untrained student for this tokenizer: bidirectional attention, `config.mask_token_id` set."""
    model = student_family(tokenizer).new_model(attn_implementation="eager")
    model.config.mask_token_id = tokenizer.mask_token_id
    return model


def new_trainer(
    role: Role, seed: int, work_dir: Path, recipe: Recipe | None = None, share: Share = ALONE
) -> Trainer:
    """A trainer of the role's model, initialised from the seed."""
    tokenizer = teacher_tokenizer(seed) if role == "teacher" else student_tokenizer(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = new_teacher(tokenizer) if role == "teacher" else new_student(tokenizer)
    return Trainer(recipe or RECIPES[role], model, tokenizer, seed, work_dir, share)


def export(trainer: Trainer, out_dir: Path) -> None:
    """Writes the trainer's model as a checkpoint folder: bfloat16 weights, tokenizer, card, training log.

    Args:
        trainer: where its training stands is what is written.
        out_dir: replaced if it exists.
    """
    partial = out_dir.with_name(out_dir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model = _half_precision_copy(trainer)
    if trainer.recipe.role == "teacher":
        model.save_pretrained(str(partial))
        save_tokenizer(trainer.tokenizer, partial)
    else:
        family = student_family(trainer.tokenizer)
        save_official(model, family.config, trainer.tokenizer, partial)
        suggested = json.dumps({"max_new_tokens": CANVAS}, indent=2) + "\n"
        (partial / "generation_config.json").write_text(suggested, encoding="utf-8")
    (partial / "model.safetensors").chmod(0o644)
    write_card(trainer, partial)
    log = "".join(json.dumps(entry) + "\n" for entry in trainer.log)
    (partial / "training_log.jsonl").write_text(log, encoding="utf-8")
    shutil.rmtree(out_dir, ignore_errors=True)
    partial.rename(out_dir)


def write_card(trainer: Trainer, folder: Path, measured: str = "") -> None:
    """Writes the model card, with what was measured on the finished model if given (markdown)."""
    n_parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    card = model_card(trainer.recipe, trainer.seed, trainer.seconds, trainer.log, n_parameters, measured)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _half_precision_copy(trainer: Trainer) -> PreTrainedModel:
    make = new_teacher if trainer.recipe.role == "teacher" else new_student
    model = make(trainer.tokenizer)
    model.load_state_dict(trainer.model.state_dict())
    return model.to(torch.bfloat16)


def train_models(
    out_dir: Path,
    seed: int,
    progress: Progress,
    which: Literal["all", "teacher", "student"] = "all",
    work_dir: Path | None = None,
    workers: int = 2,
    recipes: dict[Role, Recipe] | None = None,
    n_measured: int = 1000,
) -> dict[str, Path]:
    """Trains the models from scratch and gives back their checkpoint folders by role.

    Interrupted at any moment, the same call continues from the checkpoint in `work_dir`.

    Args:
        out_dir: gets the folders teacher/ and student/.
        seed: decides weights, problems and masks.
        progress: called with a note, steps done and steps in all, at least every ten seconds.
        which: train only one of the two.
        work_dir: for checkpoints of the trainings; default `work/<name>` beside `out_dir`.
        workers: processes of one thread each that share the rows of a step.
        recipes: other settings than the shipped models'; for tests.
        n_measured: problems or examples that the numbers on the model cards come from.
    """
    work = work_dir or out_dir.parent / "work" / out_dir.name
    work.mkdir(parents=True, exist_ok=True)
    roles: tuple[Role, ...] = ("teacher", "student") if which == "all" else (which,)
    folders: dict[str, Path] = {}
    for role in roles:
        recipe = (recipes or RECIPES)[role]
        train_role(role, seed, work, recipe, workers, progress)
        trainer = new_trainer(role, seed, work, recipe)
        trainer.load()
        folders[role] = out_dir / role
        export(trainer, folders[role])
        measure = measure_teacher if role == "teacher" else measure_student
        write_card(trainer, folders[role], measure(folders[role], seed, n_measured, progress))
        logger.info("wrote %s", folders[role])
    return folders


def train_role(role: Role, seed: int, work: Path, recipe: Recipe, workers: int, progress: Progress) -> None:
    """Trains one model to its last step, leaving its checkpoint in `work`; with helper processes if asked."""
    rendezvous = work / f"{role}-rendezvous-{os.getpid()}"
    context = multiprocessing.get_context("spawn")
    helpers = [
        context.Process(
            target=_help_train, args=(role, seed, work, recipe, rank, workers, rendezvous), daemon=True
        )
        for rank in range(1, workers)
    ]
    for helper in helpers:
        helper.start()
    try:
        _train_share(role, seed, work, recipe, Share(0, workers), rendezvous, progress)
    finally:
        for helper in helpers:
            helper.join(timeout=10)
            helper.kill()
        rendezvous.unlink(missing_ok=True)


def _help_train(
    role: Role, seed: int, work: Path, recipe: Recipe, rank: int, workers: int, rendezvous: Path
) -> None:
    _train_share(role, seed, work, recipe, Share(rank, workers), rendezvous, lambda *_: None)


def _train_share(
    role: Role, seed: int, work: Path, recipe: Recipe, share: Share, rendezvous: Path, progress: Progress
) -> None:
    if share.workers > 1:
        torch.set_num_threads(1)
        distributed.init_process_group(
            "gloo", init_method=f"file://{rendezvous.absolute()}", rank=share.rank, world_size=share.workers
        )
    try:
        new_trainer(role, seed, work, recipe, share).run(progress)
    finally:
        if share.workers > 1:
            distributed.destroy_process_group()
