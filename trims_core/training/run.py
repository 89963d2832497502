"""One process of a training run: `python -m trims_core.training.run SPEC.json`, started by launch.py.

Ends with 0 (all steps done, adapter written by rank 0), 143 (asked to stop; the state was saved) or an
error's exit code, with class and message in error-<rank>.json.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from trims_core._faults import fault_point
from trims_core.errors import InterruptedRunError, TrimsError
from trims_core.store.durable import fsync_file, write_atomically
from trims_core.training.journal import MetricsLog, ProgressFile
from trims_core.training.loggers import name_run
from trims_core.training.settings import base_name
from trims_core.training.spec import TrainSpec
from trims_core.training.warm import compiled_operator, load_operator
from trims_core.user_code import load

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trims_core.training.examples import Examples
    from trims_core.training.plan import Lengths
    from trims_core.training.trainer import DenoisingTrainer, RunData

logger = logging.getLogger(__name__)

_STOP_FILE_INTERVAL_S: Final = 0.5


class StopRequest:
    """Whether the run was asked to save and end: by SIGTERM, SIGINT, or the run's stop file.

    Before `listen`, signals end the process as usual: there is nothing to save yet.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._asked = False
        self._looked = 0.0

    def listen(self) -> None:
        """Take SIGTERM and SIGINT as requests instead of dying from them."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def __call__(self) -> bool:
        """Cheap enough for every step: the file is looked for twice a second."""
        now = time.monotonic()
        if not self._asked and now - self._looked >= _STOP_FILE_INTERVAL_S:
            self._looked = now
            self._asked = self._file.exists()
        return self._asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked = True


def main(spec_path: Path) -> int:
    """Train as the spec says; gives back the exit code."""
    spec = TrainSpec.model_validate_json(spec_path.read_bytes())
    rank = launched_rank()
    progress = ProgressFile(spec.paths.progress) if rank == 0 else None
    try:
        train(spec, rank, progress, StopRequest(spec.paths.stop))
    except TrimsError as error:
        body = {"class": type(error).__name__, "message": str(error)}
        write_atomically(spec.paths.error(rank), json.dumps(body).encode())
        return error.exit_code
    return 0


def train(
    spec: TrainSpec,
    rank: int,
    progress: ProgressFile | None,
    stop: StopRequest,
) -> None:
    """Train from the newest complete checkpoint (or from the start) to the last step, then save the adapter.

    Raises:
        InterruptedRunError: stopped on request, after saving. TrainingError, CheckpointError and others.
    """
    say = progress.tell if progress is not None else _silent
    say(0, 0, "importing PyTorch and DeepSpeed", always=True)
    from trims_core.training.adapter import add_lora, checkpoint_activations
    from trims_core.training.checkpoint import check_world_size, find_complete_checkpoint
    from trims_core.training.examples import load_examples
    from trims_core.training.loss import MaskedDenoiser
    from trims_core.training.partitions import gathered
    from trims_core.training.trainer import DenoisingTrainer, training_arguments

    operator = compiled_operator() if spec.engine == "deepspeed" and spec.device == "cpu" else None
    if operator is not None:
        load_operator(operator)
    checkpoint = find_complete_checkpoint(spec.paths.checkpoints)
    if checkpoint is not None:
        check_world_size(checkpoint, spec.world_size)
    examples = load_examples(
        spec.shards, spec.n_buckets, spec.variant, spec.seed, spec.train.max_length, spec.folder
    )
    n_steps, data_for = _plan(spec, examples)
    n_done = checkpoint.step if checkpoint else 0
    say(n_done, n_steps, "loading the student", always=True)
    student = _load_student(spec)
    targets = student.family.lora_targets(spec.train.lora.targets)
    adapted = add_lora(student.model, spec.train.lora, targets, spec.seed)
    if spec.train.gradient_checkpointing:
        checkpoint_activations(adapted)
    data = data_for(student, rank)
    say(n_done, n_steps, "starting the training engine", always=True)
    args = training_arguments(
        spec, n_steps, resumed=checkpoint is not None, validates=data.validation is not None
    )
    if spec.train.report_to:
        name_run(spec.run_name, spec.train.logging_dir)
    metrics = MetricsLog(spec.paths.metrics, n_done) if rank == 0 else None
    trainer = DenoisingTrainer(
        MaskedDenoiser(adapted, student.family), args, spec, data, metrics, progress, stop
    )
    say(n_done, n_steps, "preparing the first step", always=True)
    stop.listen()
    trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    if metrics is not None:
        metrics.close()
    if trainer.state.global_step < n_steps:
        raise InterruptedRunError(f"stopped at step {trainer.state.global_step} of {n_steps}, state saved")
    say(n_steps, n_steps, "writing the adapter", always=True)
    trainer.check_weights()
    with gathered(trainer.trainable().values()):
        if rank == 0:
            _finish(spec, trainer, adapted, examples, data)


def launched_rank() -> int:
    """The rank this process was given; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def _plan(spec: TrainSpec, examples: Examples) -> tuple[int, Callable[[Any, int], RunData]]:
    """(number of steps, how to make a rank's data once the student's ids are known)."""
    from trims_core.training.data import MaskedExamples
    from trims_core.training.plan import (
        Padding,
        RankSampler,
        Schedule,
        accumulation_steps,
        count_steps,
        split_validation,
    )
    from trims_core.training.trainer import RunData

    config = spec.train
    chosen, held_out = split_validation(examples.ids, config.validation_fraction)
    n_steps = count_steps(config, len(chosen))

    def schedule(chosen: Sequence[int] | Lengths, seed: int, end_tokens: int) -> Schedule:
        return Schedule(
            examples.ids,
            examples.prompt_lengths,
            examples.lengths,
            chosen,
            seed=seed,
            batch_size=config.batch_size,
            micro_batch_size=config.micro_batch_size,
            padding=Padding(end_tokens, config.pad_to_multiple_of, config.max_length),
            n_steps=n_steps,
            window=config.window,
        )

    ends = spec.ends
    trained = schedule(chosen, spec.seed, 0 if ends.pads == "none" else ends.tokens)
    # the same ends for every variant and seed
    validated = schedule(held_out, 0, ends.tokens)
    chunks = [held_out[i : i + config.batch_size] for i in range(0, len(held_out), config.batch_size)]
    batches = [p for chunk in chunks for p in validated.cut([validated.entry(i, 0) for i in chunk], 0)]

    def data_for(student: Any, rank: int) -> RunData:
        own_masks = None
        if spec.variant.masks is not None:
            own_masks = partial(_own_masks, load(spec.variant.masks, "train.variants masks"), student)

        def dataset(validation: list[int]) -> MaskedExamples:
            return MaskedExamples(
                examples,
                config,
                spec.variant,
                ends,
                spec.seed,
                mask_id=student.family.mask_id,
                pad_id=student.family.eos_id,
                validation=validation,
                own_masks=own_masks,
            )

        accumulation = accumulation_steps(config, spec.world_size)
        return RunData(
            train=dataset([]),
            sampler=RankSampler(trained, n_steps, accumulation, rank, spec.world_size),
            validation=dataset(held_out) if held_out else None,
            validation_batches=batches,
            validation_ids=tuple(examples.ids[i] for i in held_out),
        )

    return n_steps, data_for


def _own_masks(masks: Any, student: Any, ids_C: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = masks(ids_C, student.tokenizer, generator)
    return found


def _load_student(spec: TrainSpec) -> Any:
    from trims_core.students import load_student

    return load_student(
        spec.student.model,
        revision=spec.student.revision,
        dtype=spec.student.dtype,
        device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if spec.device == "cuda" else spec.device,
        family=spec.student.family,
        load_in_4bit=spec.student.load_in_4bit,
    )


def _finish(
    spec: TrainSpec, trainer: DenoisingTrainer, adapted: Any, examples: Examples, data: RunData
) -> None:
    """Write the adapter under the official module names, and what the stage wants to know."""
    from trims_core.students import save_adapter_official

    fault_point("train.before_adapter")
    save_adapter_official(adapted, spec.adapter, base=base_name(spec.student))
    for path in spec.adapter.iterdir():  # before the result says that they are there
        fsync_file(path)
    counts = {
        "n_examples": len(examples.ids),
        "n_validation": len(data.validation_ids),
        "n_truncated": examples.n_truncated,
        "n_without_completion": examples.n_without_completion,
    }
    result = {
        "steps": trainer.state.global_step,
        "counts": counts,
        "validation_ids": list(data.validation_ids),
        "trainable_parameters": sum(p.numel() for p in trainer.trainable().values()),
    }
    write_atomically(spec.paths.result, json.dumps(result).encode())


def _silent(done: int, total: int, note: str, *, always: bool = False) -> None:
    del done, total, note, always


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    exit_code = main(Path(sys.argv[1]))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # taking PyTorch and DeepSpeed down in order costs seconds and does nothing for us
    os._exit(exit_code)
