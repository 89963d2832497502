"""Training the demo's two small models from scratch: one loop, two objectives, resumable at every saved
step.

Shape legend: B rows, L positions, M masked (or supervised) positions, C tokens of one answer.

Every row is one problem with its worked answer, filled up to a fixed width; every step draws its rows
and masks from a generator made of (seed, role, step), so an interrupted run continues with exactly the
batches it would have seen. The learning rate is constant after a short warm-up and falls to zero over
the last part: a run with more steps is the same run until that part begins. Several worker processes may
share the rows of a step; their number changes float noise only.
"""

import json
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from transformers import PreTrainedTokenizerFast

from trims_core.demo.problems import draw_problem
from trims_core.demo.wordings import Style, worked_answer

logger = logging.getLogger(__name__)

Role = Literal["teacher", "student"]
Progress = Callable[[str, int, int], None]
Backbone = Callable[..., Any]

EPSILON = 1e-3
"""Smallest masking probability of the diffusion objective."""
SEEN_WORDS_RATE = 0.3
"""Largest masking probability of words in rows whose sums are hidden in reading order."""
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
    polish_steps: int = 0
    """Steps after the decay, at `polish_rate` falling linearly to zero."""
    polish_rate: float = 1e-3
    log_every: int = 50
    sums_in_order_from: int | None = None
    """Step from which three of four of the student's rows hide the digits of sums in reading order."""

    @property
    def all_steps(self) -> int:
        """Steps until the training ends."""
        return self.steps + self.polish_steps

    compile: bool = True


@dataclass(frozen=True)
class Batch:
    """One step's rows, and where each row's answer begins and ends (end of turn included)."""

    step: int
    sums_in_order: bool
    ids_BL: Tensor
    is_digit_BL: Tensor
    is_result_BL: Tensor
    answer_start_B: Tensor
    answer_end_B: Tensor


@dataclass(frozen=True)
class Share:
    """Which worker this process is, of how many; it takes every `workers`-th row."""

    rank: int = 0
    workers: int = 1

    @property
    def rows(self) -> slice:
        """The rows of a batch that are this worker's."""
        return slice(self.rank, None, self.workers)


ALONE = Share()


def learning_rate(recipe: Recipe, step: int) -> float:
    """The learning rate of a step: warm-up, constant, linearly to zero; then, if asked, a polish."""
    if step >= recipe.steps:
        return recipe.polish_rate * (recipe.all_steps - step) / recipe.polish_steps
    decay_steps = max(1, round(recipe.steps * recipe.decay_fraction))
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    cool = min(1.0, (recipe.steps - step) / decay_steps)
    return recipe.learning_rate * warm * cool


def draw_batch(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, seed: int, step: int) -> Batch:
    """The rows of one step: prompt, answer, end of turn, padding; rows beyond the width are redrawn."""
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
    ordered = recipe.sums_in_order_from is not None and step >= recipe.sums_in_order_from
    is_digit_BL = torch.isin(ids_BL, digit_ids(tokenizer))
    is_result_BL = behind_equals(ids_BL, tokenizer)
    return Batch(step, ordered, ids_BL, is_digit_BL, is_result_BL, torch.tensor(starts), torch.tensor(ends))


@cache
def digit_ids(tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """The ids of tokens that are one digit, with or without a space before it."""
    found = [token_id for token_id in range(len(tokenizer)) if tokenizer.decode([token_id]).strip().isdigit()]
    return torch.tensor(found)


def teacher_loss(model: Any, backbone: Backbone, batch: Batch, share: Share, _seed: int) -> Tensor:
    """Mean next-token loss over the batch's answers, end of turn included, in nats; this worker's part."""
    positions_L = torch.arange(batch.ids_BL.shape[1])
    target_BL = (positions_L >= batch.answer_start_B[:, None]) & (positions_L < batch.answer_end_B[:, None])
    n_targets = target_BL.sum()
    ids_BL, target_BL = batch.ids_BL[share.rows], target_BL[share.rows]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden_BLD = backbone(input_ids=ids_BL, use_cache=False).last_hidden_state
        logits_MV = model.lm_head(hidden_BLD[:, :-1][target_BL[:, 1:]])
    return nn.functional.cross_entropy(logits_MV.float(), ids_BL[target_BL], reduction="sum") / n_targets


def student_loss(model: Any, backbone: Backbone, batch: Batch, share: Share, seed: int) -> Tensor:
    """LLaDA's fine-tuning objective, this worker's part of the batch's mean, in nats.

    Answer tokens (padding with EOS included) are masked with their rate and weighted by its inverse.

    Source: LLaDA (arXiv 2502.09992), supervised fine-tuning; padding with EOS as in its guidelines.
    """
    generator = torch.Generator().manual_seed(hash_of(seed, "mask", batch.step))
    masked_BL, rate_BL = draw_masks(batch, generator)
    n_answer_B = batch.ids_BL.shape[1] - batch.answer_start_B
    weight_BL = 1 / (rate_BL * n_answer_B[:, None])
    ids_BL, masked_BL, weight_BL = batch.ids_BL[share.rows], masked_BL[share.rows], weight_BL[share.rows]
    hidden_ids_BL = ids_BL.masked_fill(masked_BL, model.config.mask_token_id)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden_BLD = backbone(input_ids=hidden_ids_BL, use_cache=False).last_hidden_state
        logits_MV = model.lm_head(hidden_BLD[masked_BL])
    nll_M = nn.functional.cross_entropy(logits_MV.float(), ids_BL[masked_BL], reduction="none")
    return (nll_M * weight_BL[masked_BL]).sum() / len(batch.ids_BL)


def draw_masks(batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """masked_BL (which tokens are hidden) and rate_BL (the share of tokens of their kind that is hidden).

    One rate per row, spread evenly over (0, 1] in a batch (one draw shifts them all), which lowers the
    variance of the weight and leaves the expectation alone. In a batch with `sums_in_order`, three of four
    rows hide every digit from the result of a random sum on, and few words: with independent masks alone, a
    sum whose operands are in sight while every copy of its result is hidden is so rare that the model hardly
    learns to add.
    """
    rows, width = batch.ids_BL.shape
    answer_BL = torch.arange(width) >= batch.answer_start_B[:, None]
    rate_BL = _spread_rates(rows, generator)[:, None].expand(rows, width)
    if not batch.sums_in_order:
        return answer_BL & (torch.rand(rows, width, generator=generator) < rate_BL), rate_BL
    in_order_B = torch.arange(rows) % 4 > 0
    return hide_sums(
        answer_BL,
        answer_BL & batch.is_digit_BL,
        answer_BL & batch.is_result_BL,
        rate_BL,
        in_order_B,
        generator,
    )


def behind_equals(ids_BL: Tensor, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Which tokens stand right behind an equals sign: the first of a sum's result."""
    equals_BL = ids_BL == tokenizer.encode(" =", add_special_tokens=False)[0]
    return torch.nn.functional.pad(equals_BL[:, :-1], (1, 0))


def hide_sums(
    answer_BL: Tensor,
    digit_BL: Tensor,
    result_BL: Tensor,
    rate_BL: Tensor,
    in_order_B: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """masked_BL and rate_BL where rows in order hide every digit from a random result on, and few words.

    Args:
        result_BL: first tokens behind an equals sign; at least one in every row.
        rate_BL: masking probability of rows not in order; of words in the others, times SEEN_WORDS_RATE.
    """
    rows, width = answer_BL.shape
    rate_BL = torch.where(in_order_B[:, None], rate_BL * SEEN_WORDS_RATE, rate_BL)
    masked_BL = answer_BL & (torch.rand(rows, width, generator=generator) < rate_BL)
    chosen_B = torch.multinomial(result_BL.float(), 1, generator=generator)
    hidden_BL = digit_BL & (torch.arange(width) >= chosen_B)
    share_B = hidden_BL.sum(1, keepdim=True) / digit_BL.sum(1, keepdim=True)
    ordered_digit_BL = digit_BL & in_order_B[:, None]
    masked_BL = torch.where(ordered_digit_BL, hidden_BL, masked_BL)
    rate_BL = torch.where(ordered_digit_BL, share_B, rate_BL)
    return masked_BL, rate_BL


def mask_as_in_pretraining(
    ids_C: Tensor, tokenizer: PreTrainedTokenizerFast, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """masked_C and rate_C of one answer, drawn as the student's pre-training drew them in the end.

    For `train.variants.<name>.masks`: a control that asks whether masks help because the student knows them.
    """
    answer_BL = torch.ones(1, len(ids_C), dtype=torch.bool)
    rate_BL = EPSILON + (1 - EPSILON) * torch.rand(1, 1, generator=generator).expand(1, len(ids_C))
    in_order_B = torch.rand(1, generator=generator) < 0.75
    digit_BL = torch.isin(ids_C, digit_ids(tokenizer))[None]
    result_BL = behind_equals(ids_C[None], tokenizer)
    if not result_BL.any():
        return (torch.rand(1, len(ids_C), generator=generator) < rate_BL)[0], rate_BL[0]
    masked_BL, rate_BL = hide_sums(answer_BL, digit_BL, result_BL, rate_BL, in_order_B, generator)
    return masked_BL[0], rate_BL[0]


def _spread_rates(rows: int, generator: torch.Generator) -> Tensor:
    spread_B = (torch.arange(rows) + torch.rand(1, generator=generator)) / rows
    return EPSILON + (1 - EPSILON) * spread_B[torch.randperm(rows, generator=generator)]


def hash_of(*parts: object) -> int:
    """A seed below 2**63 from the parts, the same on every machine."""
    return random.Random("/".join(map(str, parts))).getrandbits(63)


@contextmanager
def _heartbeat(report: Callable[[], None]) -> Iterator[None]:
    """Calls `report` now, at the end and every few seconds between: the first step compiles for a minute."""
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.wait(PROGRESS_EVERY_S):
            report()

    report()
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
    report()


class Trainer:
    """One model's training with its checkpoint file; `run` continues where the last saved step ended."""

    def __init__(
        self,
        recipe: Recipe,
        model: Any,
        tokenizer: PreTrainedTokenizerFast,
        seed: int,
        work_dir: Path,
        share: Share = ALONE,
    ) -> None:
        self.recipe, self.model, self.tokenizer, self.seed, self.share = recipe, model, tokenizer, seed, share
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
        later = ("steps", "polish_steps", "polish_rate", "compile")
        settings = {key: value for key, value in asdict(self.recipe).items() if key not in later}
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
        partial.replace(self.checkpoint)

    def run(self, progress: Progress) -> None:
        """Trains to the recipe's last step.

        Raises:
            FloatingPointError: the loss is no longer finite.
        """
        self.load()
        backbone = torch.compile(self.model.model) if self.recipe.compile else self.model.model
        self.model.train()
        last_save = last_tick = time.monotonic()
        recent: list[float] = []
        with _heartbeat(lambda: progress(self._note(), self.step, self.recipe.all_steps)):
            while self.step < self.recipe.all_steps:
                rate = learning_rate(self.recipe, self.step)
                recent.append(self._train_step(backbone, rate))
                self.step += 1
                now = time.monotonic()
                self.seconds, last_tick = self.seconds + now - last_tick, now
                if self.step % self.recipe.log_every == 0:
                    loss = sum(recent) / len(recent)
                    self.log.append({"step": self.step, "loss": loss, "learning_rate": rate})
                    recent = []
                if self.share.rank == 0 and (
                    self.step == self.recipe.all_steps or now - last_save > SAVE_EVERY_S
                ):
                    self.save()
                    last_save = now

    def _note(self) -> str:
        if not self.log:
            return f"{self.recipe.role}: compiling" if self.recipe.compile else f"{self.recipe.role}: started"
        return f"{self.recipe.role}: loss {self.log[-1]['loss']:.4f}, {self.seconds:.0f} s"

    def _train_step(self, backbone: Backbone, rate: float) -> float:
        """The loss, after one update from this worker's rows and the others' gradients."""
        batch = draw_batch(self.recipe, self.tokenizer, self.seed, self.step)
        loss_of = teacher_loss if self.recipe.role == "teacher" else student_loss
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = loss_of(self.model, backbone, batch, self.share, self.seed)
        loss.backward()
        value = self._sum_over_workers(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"{self.recipe.role}: loss is {value} at step {self.step}")
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["rate_factor"]
            optimizer.step()
        return value

    def _sum_over_workers(self, loss: Tensor) -> float:
        """The batch's loss; every gradient becomes the sum over the workers."""
        if self.share.workers == 1:
            return loss.item()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([loss.reshape(1), *(gradient.reshape(-1) for gradient in gradients)])
        distributed.all_reduce(flat)
        offset = 1
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
            offset += gradient.numel()
        return flat[0].item()


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
