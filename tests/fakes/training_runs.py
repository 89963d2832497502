"""Trainings in this process, and under DeepSpeed in forked ones that import nothing anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.forking import ForkedChild
from fakes.training_student import tiny_spec, tiny_train

from trims_core.config import LaunchConfig, LoraSettings
from trims_core.training import launch, run
from trims_core.training.journal import ProgressFile
from trims_core.training.spec import TrainSpec


class Quiet(run.StopRequest):
    """Leaves the test process's signal handlers alone."""

    def listen(self) -> None:
        """Nothing."""


def train_here(spec: TrainSpec) -> TrainSpec:
    """Trains in this process, without DeepSpeed; gives back the spec."""
    run.train(spec, 0, ProgressFile(spec.paths.progress), Quiet(spec.paths.stop))
    return spec


def fork(name: str, module: Any, env: Any, log: Path) -> launch.Member:
    """In place of `launch._spawn`: a rank that imports nothing anew."""
    return launch.Member(name, ForkedChild(run.main, Path(module[1]), log=log, env=env))


def deepspeed_run(
    folder: Path,
    n_ranks: int,
    hostfile: str | None = None,
    *,
    spawn: Any = fork,
    spec_changes: dict[str, Any] | None = None,
    dtype: str = "float32",
    **settings: Any,
) -> tuple[TrainSpec, list[str]]:
    """A short run without dropout under DeepSpeed, to its end; gives back its spec and notes."""
    chosen = {"max_steps": 4, "save_steps": 4, "lora": LoraSettings(r=4, alpha=8, dropout=0.0), **settings}
    # a longer window groups micro-batches by their size, which is no split of the same batches
    train = tiny_train(length_window=1, **chosen)
    spec = tiny_spec(folder, train=train, engine="deepspeed", world_size=n_ranks, **(spec_changes or {}))
    spec = spec.model_copy(update={"student": spec.student.model_copy(update={"dtype": dtype})})
    said: list[tuple[int, int, str]] = []
    launched = LaunchConfig(processes=1 if hostfile else n_ranks, hostfile=hostfile)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_spawn", spawn)
        launch.run_training(spec, launched, lambda *what: said.append(what))
    assert (chosen["max_steps"], chosen["max_steps"]) in {(done, total) for done, total, _ in said}
    return spec, [note for _, _, note in said]
