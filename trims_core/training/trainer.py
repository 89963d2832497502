"""Hugging Face's Trainer for masked denoising: our loss, our batches, checkpoints that are marked when whole.

What is ours and why: the loss is already that of the global batch, so neither accumulation nor rank
averaging may divide it again; batches come from a schedule that knows nothing of ranks; a checkpoint counts
only once marked; metrics go to one JSONL file; a non-finite value ends the run.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from trims_core._faults import fault_point
from trims_core.errors import LaunchError, TrainingDivergedError
from trims_core.store.durable import disk_errors
from trims_core.training.checkpoint import FOLDER_PREFIX, find_complete_checkpoint, mark_complete, prune
from trims_core.training.data import COUNTED, Batch, MaskedExamples
from trims_core.training.journal import MetricsLog, ProgressFile
from trims_core.training.loss import MaskedDenoiser, denoising_loss
from trims_core.training.partitions import gathered
from trims_core.training.plan import MicroBatch, RankSampler, accumulation_steps
from trims_core.training.spec import TrainSpec

_WEIGHTS_NAME = "trainable.safetensors"
_TALLIED: Final = ("loss", "end_loss", *COUNTED)


@dataclass(frozen=True)
class RunData:
    """What one rank trains and validates on."""

    train: MaskedExamples
    sampler: RankSampler
    validation: MaskedExamples | None
    validation_batches: Sequence[MicroBatch]
    validation_ids: tuple[str, ...] = ()


def training_arguments(spec: TrainSpec, n_steps: int, *, resumed: bool, validates: bool) -> TrainingArguments:
    """Trainer's view of a run's settings; everything about data, metrics and kept checkpoints is ours."""
    config = spec.train
    return TrainingArguments(
        output_dir=str(spec.paths.checkpoints),
        max_steps=n_steps,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=accumulation_steps(config, spec.world_size),
        learning_rate=config.lr,
        lr_scheduler_type="constant_with_warmup" if config.scheduler == "constant" else config.scheduler,
        warmup_steps=math.ceil(config.warmup_ratio * n_steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch",
        seed=spec.seed % 2**32,
        bf16=spec.student.dtype == "bfloat16",
        fp16=spec.student.dtype == "float16",
        use_cpu=spec.device == "cpu",
        deepspeed=spec.deepspeed if spec.engine == "deepspeed" else None,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validates else "no",
        eval_steps=config.eval_steps,
        eval_on_start=validates and not resumed,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=None,
        report_to=list(config.report_to) or "none",
        run_name=spec.run_name,
        project=spec.run_name.partition("/")[0],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        log_level="warning",
    )


class DenoisingTrainer(Trainer):
    """Trains a MaskedDenoiser on a schedule of micro-batches.

    Raises (from train): TrainingDivergedError, LaunchError (DeepSpeed or ranks are missing), DiskFullError.
    """

    loss_is_scaled_for_ga = True
    control: Any

    def __init__(
        self,
        model: MaskedDenoiser,
        args: TrainingArguments,
        spec: TrainSpec,
        data: RunData,
        metrics: MetricsLog | None,
        progress: ProgressFile | None,
        stop_requested: Callable[[], bool],
    ) -> None:
        self._spec = spec
        self._data = data
        self._metrics = metrics
        self._progress = progress
        self._tally = torch.zeros(len(_TALLIED), dtype=torch.float64)
        super().__init__(
            model=model,
            args=args,
            train_dataset=data.train,
            eval_dataset=data.validation,
            callbacks=[_StepEnd(self, stop_requested)],
        )
        self.remove_callback(PrinterCallback)

    # ---- data and loss

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This rank's micro-batches from the first step on; Trainer skips those a resume has behind it."""
        return DataLoader(
            self._data.train,
            batch_sampler=self._data.sampler,
            collate_fn=_only,
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        *_: Any,
        **__: Any,
    ) -> Tensor:
        """This micro-batch's part of the global loss, times the ranks over which gradients are averaged."""
        loss, end_loss = denoising_loss(model, inputs)
        if not torch.isfinite(loss):
            raise self._diverged("loss", loss.item())
        self._tally += _tallied(inputs, loss, end_loss)
        return loss * self._spec.world_size

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """{"eval_loss", "eval_end_loss"}: nats per token of the held-out examples' content, and of the ends
        behind it (where there are any), under standard masks with fixed draws and hidden ends."""
        dataset = self._data.validation
        if dataset is None:
            return {}
        batches, world_size = self._data.validation_batches, self._spec.world_size
        was_training = self.model.training
        self.model.eval()
        sums = torch.zeros(len(_TALLIED), dtype=torch.float64)
        with torch.no_grad():
            for turn in range(0, len(batches), world_size):
                # ranks without a batch of their own repeat the last one: under ZeRO-3 all must take part
                place = turn + self.args.process_index
                micro_batch = batches[min(place, len(batches) - 1)]
                inputs = self._prepare_inputs(dataset[micro_batch].tensors())
                tallied = _tallied(inputs, *denoising_loss(self.model, inputs))
                sums += tallied if place < len(batches) else 0.0
        self.model.train(was_training)
        total = dict(zip(_TALLIED, self._over_ranks(sums).tolist(), strict=True))
        loss = (total["loss"] - total["end_loss"]) / total["n_content"]
        end_loss = total["end_loss"] / total["n_ends"] if total["n_ends"] else None
        if not math.isfinite(total["loss"]):
            raise self._diverged("validation loss", total["loss"])
        if self._metrics is not None:
            self._metrics.append(self.state.global_step, "eval", loss=loss, end_loss=end_loss)
        found = {"eval_loss": loss} | ({} if end_loss is None else {"eval_end_loss": end_loss})
        self._report(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def log(self, logs: dict[str, float], *_: Any) -> None:
        """One row of metrics.jsonl per optimizer step; raises TrainingDivergedError on non-finite values."""
        if "loss" not in logs:
            return
        found = dict(zip(_TALLIED, self._over_ranks(self._tally).tolist(), strict=True))
        self._tally = torch.zeros_like(self._tally)
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs[name]):
                raise self._diverged(name, logs[name])
        shares = {
            "masked_fraction": found["n_masked_content"] / max(found["n_content"], 1.0),
            "end_loss_share": found["end_loss"] / found["loss"] if found["loss"] else 0.0,
            "dead_columns": found["n_dead"] / found["n_columns"],
        }
        if self._metrics is not None:
            self._metrics.append(
                self.state.global_step,
                "train",
                loss=logs["loss"],
                lr=logs["learning_rate"],
                grad_norm=logs["grad_norm"],
                **shares,
            )
        self._report({**logs, **shares})
        if self._progress is not None:
            step, total = self.state.global_step, self.state.max_steps
            self._progress.tell(step, total, f"step {step} of {total}, loss {logs['loss']:.3f}")

    def _report(self, values: dict[str, float]) -> None:
        """Hand values to the trackers of train.report_to; they report on rank 0 alone."""
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, values)

    # ---- checkpoints

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the trainable weights (adapters) of a checkpoint."""
        folder = Path(str(output_dir))
        weights = self._trainable_copies()
        if self.args.process_index == 0:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            with disk_errors(folder):
                save_file(weights, folder / _WEIGHTS_NAME)
            fault_point("train.after_adapter")
        self._barrier()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        with disk_errors(Path(output_dir)):
            if self.is_deepspeed_enabled:
                self.model_wrapped.save_checkpoint(output_dir, exclude_frozen_parameters=True)
            elif self.args.should_save:
                torch.save(self.optimizer.state_dict(), Path(output_dir) / "optimizer.pt")
            if self.args.should_save:
                torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")
        fault_point("train.after_optimizer")

    def _save_rng_state(self, output_dir: str) -> None:
        """Nothing: every draw, dropout included, is seeded by what it is for."""
        del output_dir
        fault_point("train.before_trainer_state")

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self._progress is not None:
            step, total = self.state.global_step, self.state.max_steps
            self._progress.tell(step, total, f"saving a checkpoint at step {step}", always=True)
        super()._save_checkpoint(model, trial)
        self.check_weights()
        self._barrier()
        if self.args.process_index == 0:
            folder = Path(self.args.output_dir) / f"{FOLDER_PREFIX}{self.state.global_step}"
            fault_point("train.before_complete")
            with disk_errors(folder):
                mark_complete(folder, self.state.global_step, self._spec.world_size)
            fault_point("train.after_complete")
            prune(folder.parent)
        self._barrier()

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: DataLoader[Any], resume_from_checkpoint: str | None
    ) -> tuple[nn.Module, DataLoader[Any]]:
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        self._check_engine()
        if resume_from_checkpoint is not None:
            if self.is_deepspeed_enabled:
                # frozen weights are not in the checkpoint, hence not strict
                self.model_wrapped.load_checkpoint(resume_from_checkpoint, load_module_strict=False)
            self._load_optimizer_and_scheduler(resume_from_checkpoint)
        return prepared

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *_: Any) -> None:
        """Put saved adapter weights back (without DeepSpeed, which loads its own)."""
        saved = load_file(Path(resume_from_checkpoint) / _WEIGHTS_NAME)
        with torch.no_grad():
            for name, weight in self.trainable().items():
                weight.copy_(saved[name])

    # ---- checks

    def check_weights(self) -> None:
        """Raises: TrainingDivergedError where a trained weight is not finite; all ranks ask together."""
        for name, weight in self._trainable_copies().items():
            if not torch.isfinite(weight).all():
                raise self._diverged(f"weight {name}", float("nan"))

    def _check_engine(self) -> None:
        """Raises: LaunchError unless DeepSpeed and all ranks are there; some launchers drop them."""
        wrapper = type(self.model_wrapped).__name__
        if self._spec.engine == "deepspeed" and wrapper != "DeepSpeedEngine":
            raise LaunchError(f"training runs on {wrapper}, expected DeepSpeedEngine; check the environment")
        found = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        if found != self._spec.world_size:
            raise LaunchError(f"training has {found} process(es), expected {self._spec.world_size}")

    def _diverged(self, what: str, value: float) -> TrainingDivergedError:
        kept = find_complete_checkpoint(Path(self.args.output_dir))
        kept_text = (
            f"the checkpoint of step {kept.step} is kept in {kept.path}" if kept else "no checkpoint yet"
        )
        return TrainingDivergedError(
            f"{what} is {value} at optimizer step {self.state.global_step + 1}, expected a finite number;"
            f" {kept_text}. Lower train.lr (now {self._spec.train.lr:g}) or train.max_grad_norm"
            f" (now {self._spec.train.max_grad_norm:g}), or raise train.warmup_ratio"
        )

    def trainable(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name; under ZeRO-3 see `gathered` for their values."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def _trainable_copies(self) -> dict[str, Tensor]:
        with gathered(self.trainable().values()):
            return {
                name: weight.detach().to("cpu", copy=True).contiguous()
                for name, weight in self.trainable().items()
            }

    def _over_ranks(self, values: Tensor) -> Tensor:
        """Sum over all ranks."""
        if self._spec.world_size == 1:
            return values
        moved = values.to(self.args.device)
        torch.distributed.all_reduce(moved)
        return moved.cpu()

    def _barrier(self) -> None:
        if self._spec.world_size > 1:
            torch.distributed.barrier()

    def any_rank(self, flag: bool) -> bool:
        """Whether the flag is set on at least one rank."""
        return bool(self._over_ranks(torch.tensor([float(flag)])) > 0)


class _StepEnd(TrainerCallback):
    """Saves and ends the run when asked to."""

    def __init__(self, trainer: DenoisingTrainer, stop_requested: Callable[[], bool]) -> None:
        self._trainer = trainer
        self._stop_requested = stop_requested

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> Any:
        del args
        fault_point("train.after_step")
        if state.global_step < state.max_steps and self._trainer.any_rank(self._stop_requested()):
            control.should_save = True
            control.should_training_stop = True
        return control


def _tallied(inputs: dict[str, Any], loss: Tensor, end_loss: Tensor) -> Tensor:
    """A micro-batch's sums named by _TALLIED, float64: its parts of the loss, and positions by kind."""
    return torch.tensor([loss.item(), end_loss.item(), *inputs["counts"]], dtype=torch.float64)


def _only(batches: list[Batch]) -> dict[str, Any]:
    """The single micro-batch a DataLoader's fetch consists of."""
    (batch,) = batches
    return batch.tensors()
