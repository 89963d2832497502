"""One process of a training run: `python -m trims_core.training.run SPEC.json`, started by launch.py.

Ends with 0 (all steps done, the result written by rank 0), 143 (asked to stop; the state was saved) or an
error's exit code, with class and message in error-<rank>.json.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from trims_core._faults import fault_point
from trims_core.errors import TrimsError
from trims_core.store.durable import fsync_file, write_atomically
from trims_core.trained import MOMENTS_FILE
from trims_core.training.journal import MetricsLog, ProgressFile
from trims_core.training.spec import TrainSpec
from trims_core.training.warm import compiled_operator, load_operator

if TYPE_CHECKING:
    from trims_core.students import Student
    from trims_core.training.data import RunData
    from trims_core.training.engine import Moments
    from trims_core.training.examples import Examples
    from trims_core.training.method import Method
    from trims_core.training.reporting import Reporter
    from trims_core.training.saving import Saver
    from trims_core.training.student import Denoiser
    from trims_core.training.world import World

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
    """Train from the newest complete checkpoint (or from the start) to the last step, then write the result.

    Raises:
        InterruptedRunError: stopped on request, after saving. TrainingError, CheckpointError and others.
    """
    say = progress.tell if progress is not None else _silent
    say(0, 0, "importing PyTorch and DeepSpeed", always=True)
    from trims_core.training.checkpoint import check_world_size, find_complete_checkpoint
    from trims_core.training.data import run_data
    from trims_core.training.engine import new_engine
    from trims_core.training.examples import load_examples
    from trims_core.training.loop import Loop
    from trims_core.training.method import Context, build_method
    from trims_core.training.saving import Saver, read_moments
    from trims_core.training.settings import check_attention
    from trims_core.training.sources import source_of
    from trims_core.training.student import Denoiser, TrainedStudent
    from trims_core.training.trainable import new_trainable
    from trims_core.training.world import World

    operator = compiled_operator() if spec.engine == "deepspeed" and spec.device == "cpu" else None
    if operator is not None:
        load_operator(operator)
    # 1. where to begin, and on what
    checkpoint = find_complete_checkpoint(spec.paths.checkpoints)
    if checkpoint is not None:
        check_world_size(checkpoint, spec.world_size)
    n_done = checkpoint.step if checkpoint else 0
    order, max_length = spec.variant.token_order, spec.train.max_length
    examples = load_examples(source_of(spec), order, spec.seed, max_length, spec.folder)
    # 2. the student, and the method that trains it
    say(n_done, 0, "loading the student", always=True)
    student = _load_student(spec)
    family = student.family
    check_attention(family.block_causal_length, spec.variant, spec.student.model)
    model = new_trainable(student, spec)
    context = Context(
        spec.train,
        spec.ends,
        examples.n_buckets,
        family.mask_id,
        family.name,
        lambda: student.tokenizer,
        rollouts=spec.rollouts,
        rollout_grades=spec.rollout_grades,
        pad_id=family.eos_id,
    )
    method = build_method(spec.variant, context)
    # 3. the engine around it
    say(n_done, 0, "starting the training engine", always=True)
    denoiser = Denoiser(model, family, keeps_start=getattr(spec.variant, "old_dropout", False)).train()
    engine = new_engine(spec, denoiser)
    world = World(rank, spec.world_size, engine.device)
    data = run_data(spec, examples, context, family.eos_id, world)
    saver = Saver(spec, denoiser, engine, world, n_done)
    if checkpoint is not None:
        saver.load(checkpoint)
    elif spec.moments is not None:
        engine.set_moments(read_moments(spec.moments))
    reporter = _reporter(spec, denoiser, method, data.n_steps, n_done, progress, world)
    reporter.say(n_done, "preparing the first step", always=True)
    # 4. step by step
    stop.listen()
    trained = TrainedStudent(engine.module, denoiser)
    try:
        Loop(spec, method, trained, engine, data, world, reporter, saver, stop).run(n_done)
    finally:
        reporter.close()
    # 5. the result
    what = "the checkpoint" if spec.train.lora is None else "the adapter"
    reporter.say(data.n_steps, f"writing {what}", always=True)
    moments = engine.moments() if spec.keeps_moments else None
    _finish(spec, saver, student, denoiser, examples, data, world, moments)


def launched_rank() -> int:
    """The rank this process was given; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def _reporter(
    spec: TrainSpec,
    denoiser: Denoiser,
    method: Method,
    n_steps: int,
    n_done: int,
    progress: ProgressFile | None,
    world: World,
) -> Reporter:
    """Rank 0's reports; of the other ranks one that says nothing."""
    from trims_core.training.flops import Speed, flops_per_token
    from trims_core.training.loggers import Trackers
    from trims_core.training.reporting import Reporter
    from trims_core.training.saving import count_linear, count_trainable

    n_linear = count_linear(denoiser)
    n_adapters = count_trainable(denoiser) if spec.train.lora else None
    flops = flops_per_token(n_linear, n_adapters, spec.variant.passes, method.n_losses)
    speed = Speed(flops, world.size, spec.student.dtype)
    metrics = MetricsLog(spec.paths.metrics, n_done) if world.rank == 0 else None
    trackers = None
    if spec.train.report_to and world.rank == 0:
        settings = {"seed": spec.seed, **spec.variant.result_fields()}
        trackers = Trackers(spec.train.report_to, spec.run_name, spec.train.logging_dir, settings)
    return Reporter(n_steps, world.device, metrics, progress, trackers, speed)


def _load_student(spec: TrainSpec) -> Student:
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
    spec: TrainSpec,
    saver: Saver,
    student: Student,
    denoiser: Denoiser,
    examples: Examples,
    data: RunData,
    world: World,
    moments: Moments | None,
) -> None:
    """Write the result under the official module names, and what the stage wants to know."""
    from trims_core.training.engine import trainable
    from trims_core.training.partitions import gathered
    from trims_core.training.result import write_adapter, write_checkpoint
    from trims_core.training.saving import count_trainable, write_moments

    best_step = saver.keep_best()
    weights = saver.finite_weights(data.n_steps)
    partitioned = trainable(denoiser).values() if spec.train.lora else ()
    with gathered(partitioned):
        if world.rank:
            return
        fault_point("train.before_adapter")
        if spec.train.lora is None:
            inside = {name.removeprefix("model."): weight for name, weight in weights.items()}
            write_checkpoint(spec, student, inside)
        else:
            write_adapter(spec, denoiser.model)
        if moments is not None:
            write_moments(moments, spec.adapter / MOMENTS_FILE)
    for path in spec.adapter.iterdir():  # before the result says that they are there
        fsync_file(path)
    counts = {
        "n_examples": len(examples.ids),
        "n_validation": len(data.validation_ids),
        "n_truncated": examples.n_truncated,
        "n_without_completion": examples.n_without_completion,
        **examples.left_out,
    }
    result = {
        "steps": data.n_steps,
        "kept_step": data.n_steps if best_step is None else best_step,
        "counts": counts,
        "validation_ids": list(data.validation_ids),
        "trainable_parameters": count_trainable(denoiser),
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
