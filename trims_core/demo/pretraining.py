"""Training the demo's two small models from scratch: one loop, two objectives, resumable at every saved step.

Shape legend: B rows, L positions, M masked (or supervised) positions.

Every row is one problem with its worked answer, filled up to a fixed width; every step draws its rows and masks from a
generator made of (seed, role, step), so an interrupted run continues with exactly the batches it would have seen.
The learning rate is constant after a short warm-up and falls to zero over the last part: a run with more steps is the same
run until that part begins.
"""

import json
import logging
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from trims_core.demo.problems import draw_problem
from trims_core.demo.wordings import STYLES, Style, worked_answer

logger = logging.getLogger(__name__)

Role = Literal["teacher", "student"]
Progress = Callable[[str, int, int], None]

EPSILON = 1e-3
"""Smallest masking probability of the diffusion objective."""
PROGRESS_EVERY_S = 5.0
SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class Recipe:
    """Settings of one training: what a model card reports."""

    role: Role
    styles: tuple[Style, ...]
    steps: int
    rows: int
    width: int
    learning_rate: float
    matrix_rate_factor: float = 2.5
    warmup_steps: int = 200
    decay_fraction: float = 0.3
    weight_decay: float = 0.01
    log_every: int = 50
    compile: bool = True


@dataclass(frozen=True)
class Batch:
    """Token ids of B rows of L positions, where each row's answer begins, and how long the prompt and answer are."""

    ids_BL: Tensor
    answer_start_B: Tensor
    answer_end_B: Tensor


def learning_rate(recipe: Recipe, step: int) -> float:
    """The learning rate of a step: warm-up, constant, then linearly to zero."""
    decay_steps = max(1, round(recipe.steps * recipe.decay_fraction))
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    cool = min(1.0, (recipe.steps - step) / decay_steps)
    return recipe.learning_rate * warm * cool


def draw_batch(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, seed: int, step: int) -> Batch:
    """The rows of one step: prompt, answer, end of turn, then padding up to the width; too long rows are drawn again."""
    rng = random.Random(f"{seed}/{recipe.role}/{step}")
    end_of_turn = tokenizer.convert_tokens_to_ids("<|im_end|>" if recipe.role == "teacher" else "<|eot_id|>")
    ids_BL = torch.full((recipe.rows, recipe.width), tokenizer.pad_token_id, dtype=torch.long)
    starts: list[int] = []
    ends: list[int] = []
    while len(starts) < recipe.rows:
        missing = recipe.rows - len(starts)
        problems = [draw_problem(rng, "pre-training") for _ in range(missing)]
        messages = [[{"role": "user", "content": problem.question}] for problem in problems]
        prompts = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        answers = [worked_answer(rng, problem, rng.choice(recipe.styles)) for problem in problems]
        prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        answer_ids = tokenizer(answers, add_special_tokens=False)["input_ids"]
        for prompt, answer in zip(prompt_ids, answer_ids, strict=True):
            row = [*prompt, *answer, end_of_turn]
            if len(row) > recipe.width:
                continue
            ids_BL[len(starts), : len(row)] = torch.tensor(row)
            starts.append(len(prompt))
            ends.append(len(row))
    return Batch(ids_BL, torch.tensor(starts), torch.tensor(ends))


def teacher_loss(
    model: nn.Module, backbone: Callable[..., Any], batch: Batch, _seed: int, _step: int
) -> Tensor:
    """Mean next-token loss over the answers' tokens, end of turn included, in nats."""
    positions_L = torch.arange(batch.ids_BL.shape[1])
    target_BL = (positions_L >= batch.answer_start_B[:, None]) & (positions_L < batch.answer_end_B[:, None])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden_BLD = backbone(input_ids=batch.ids_BL, use_cache=False).last_hidden_state
        logits_MV = model.lm_head(hidden_BLD[:, :-1][target_BL[:, 1:]])
    return nn.functional.cross_entropy(logits_MV.float(), batch.ids_BL[target_BL])


def student_loss(
    model: nn.Module, backbone: Callable[..., Any], batch: Batch, seed: int, step: int
) -> Tensor:
    """LLaDA's fine-tuning objective: masked answer tokens (padding with EOS included), each weighted by 1/t.

    The masking probabilities of a batch are spread evenly over (0, 1] (one draw shifts them all), which lowers the
    variance of the 1/t weight and leaves its expectation alone.

    Source: LLaDA (arXiv 2502.09992), supervised fine-tuning; padding with EOS inside the loss as in its guidelines.
    """
    generator = torch.Generator().manual_seed(hash_of(seed, "mask", step))
    rows, width = batch.ids_BL.shape
    spread_B = (torch.arange(rows) + torch.rand(1, generator=generator)) / rows
    rate_B = EPSILON + (1 - EPSILON) * spread_B[torch.randperm(rows, generator=generator)]
    answer_BL = torch.arange(width) >= batch.answer_start_B[:, None]
    masked_BL = answer_BL & (torch.rand(rows, width, generator=generator) < rate_B[:, None])
    mask_id = model.config.mask_token_id
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden_BLD = backbone(
            input_ids=batch.ids_BL.masked_fill(masked_BL, mask_id), use_cache=False
        ).last_hidden_state
        logits_MV = model.lm_head(hidden_BLD[masked_BL])
    nll_M = nn.functional.cross_entropy(logits_MV.float(), batch.ids_BL[masked_BL], reduction="none")
    weight_BL = (1 / (rate_B * answer_BL.sum(1)))[:, None].expand(rows, width)
    return (nll_M * weight_BL[masked_BL]).sum() / rows


def hash_of(*parts: object) -> int:
    """A seed below 2**63 from the parts, the same on every machine."""
    return random.Random("/".join(map(str, parts))).getrandbits(63)


class Trainer:
    """One model's training with its checkpoint file; `run` continues where the last saved step ended."""

    def __init__(
        self, recipe: Recipe, model: nn.Module, tokenizer: PreTrainedTokenizerFast, seed: int, work_dir: Path
    ) -> None:
        self.recipe, self.model, self.tokenizer, self.seed = recipe, model, tokenizer, seed
        self.checkpoint = work_dir / f"{recipe.role}.pt"
        self.optimizers = _optimizers(model, recipe)
        self.step = 0
        self.seconds = 0.0
        self.log: list[dict[str, float]] = []
        work_dir.mkdir(parents=True, exist_ok=True)

    def load(self) -> bool:
        """Whether a checkpoint of this recipe and seed was found and loaded."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, weights_only=True)
        if state["identity"] != self._identity():
            logger.warning("%s belongs to other settings; training starts anew", self.checkpoint)
            return False
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds, self.log = state["step"], state["seconds"], state["log"]
        return True

    def _identity(self) -> str:
        """Settings that change the weights at a step before the final decay."""
        settings = {
            key: value for key, value in asdict(self.recipe).items() if key not in ("steps", "compile")
        }
        return json.dumps({**settings, "seed": self.seed}, sort_keys=True)

    def save(self) -> None:
        """Replaces the checkpoint atomically."""
        state = {
            "identity": self._identity(),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
            "log": self.log,
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)

    def run(self, progress: Progress) -> None:
        """Trains to the recipe's last step.

        Raises:
            FloatingPointError: the loss is no longer finite.
        """
        self.load()
        recipe, loss_of = self.recipe, teacher_loss if self.recipe.role == "teacher" else student_loss
        backbone = torch.compile(self.model.model) if recipe.compile else self.model.model
        self.model.train()
        last_progress = last_save = last_tick = time.monotonic()
        recent: list[float] = []
        while self.step < recipe.steps:
            rate = learning_rate(recipe, self.step)
            loss = loss_of(
                self.model,
                backbone,
                draw_batch(recipe, self.tokenizer, self.seed, self.step),
                self.seed,
                self.step,
            )
            self._update(loss, rate)
            recent.append(loss.item())
            if not math.isfinite(recent[-1]):
                raise FloatingPointError(f"{recipe.role}: loss is {recent[-1]} at step {self.step}")
            self.step += 1
            now = time.monotonic()
            self.seconds, last_tick = self.seconds + now - last_tick, now
            if self.step % recipe.log_every == 0:
                self.log.append({"step": self.step, "loss": sum(recent) / len(recent), "learning_rate": rate})
                recent = []
            if now - last_progress > PROGRESS_EVERY_S or self.step == recipe.steps:
                shown = self.log[-1]["loss"] if self.log else loss.item()
                progress(f"{recipe.role}: loss {shown:.4f}, {self.seconds:.0f} s", self.step, recipe.steps)
                last_progress = now
            if now - last_save > SAVE_EVERY_S or self.step == recipe.steps:
                self.save()
                last_save = now

    def _update(self, loss: Tensor, rate: float) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["rate_factor"]
            optimizer.step()


def _optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for embeddings, head and norms."""
    blocks = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and ".layers." in name)]
    matrices = [{"params": blocks, "rate_factor": recipe.matrix_rate_factor}]
    rest = [{"params": others, "rate_factor": 1.0}]
    return [
        torch.optim.Muon(matrices, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True),
    ]
