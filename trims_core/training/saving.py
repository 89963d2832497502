"""Checkpoints of a training: written by all ranks, whole only when marked (checkpoint.py), two of them kept.

checkpoints/checkpoint-40/   trainable.safetensors, optimizer state, state.json, COMPLETE
best.safetensors             the weights of the lowest validation loss so far, where train.keep is best
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trims_core._faults import fault_point
from trims_core.store.durable import disk_errors, fsync_file
from trims_core.training.checkpoint import (
    FOLDER_PREFIX,
    STATE_NAME,
    Checkpoint,
    diverged,
    mark_complete,
    prune,
)
from trims_core.training.engine import ADAM_KEYS, Engine, Moments, trainable
from trims_core.training.partitions import gathered
from trims_core.training.spec import TrainSpec
from trims_core.training.world import World

WEIGHTS_NAME: Final = "trainable.safetensors"


class Saver:
    """Writes and reads the checkpoints of one rank.

    Args:
        n_done: optimizer steps of the checkpoint that is gone on from; what was best later is found again.

    Raises: TrainingDivergedError where a weight that would be kept is not finite; DiskFullError.
    """

    def __init__(self, spec: TrainSpec, model: nn.Module, engine: Engine, world: World, n_done: int) -> None:
        self._spec, self._model, self._engine, self._world = spec, model, engine, world
        best = read_best(spec.paths.best) if spec.train.keep == "best" else None
        self._best = best if best and best[0] <= n_done else None

    def save(self, step: int) -> None:
        """A checkpoint of this step, marked once every rank has written its part."""
        folder = self._spec.paths.checkpoints / f"{FOLDER_PREFIX}{step}"
        is_first = self._world.rank == 0
        weights = self.finite_weights(step)
        with disk_errors(self._spec.paths.checkpoints):
            if is_first:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                save_file(weights, folder / WEIGHTS_NAME)
                fault_point("train.after_adapter")
            self._world.wait()
            self._engine.save(folder, is_first=is_first)
            fault_point("train.after_optimizer")
            self._world.wait()
            if is_first:
                fault_point("train.before_state")
                (folder / STATE_NAME).write_text(json.dumps({"step": step}), encoding="utf-8")
                fault_point("train.before_complete")
                mark_complete(folder, step, self._spec.world_size)
                fault_point("train.after_complete")
                prune(folder.parent)
        self._world.wait()

    def load(self, checkpoint: Checkpoint) -> None:
        """Put weights and optimizer of a checkpoint back."""
        self._put(load_file(checkpoint.path / WEIGHTS_NAME))
        self._engine.load(checkpoint.path)

    def validated(self, step: int, loss: float) -> None:
        """Keep the weights of the lowest validation loss; of equal ones the earliest."""
        if self._spec.train.keep != "best" or (self._best and self._best[1] <= loss):
            return
        self._best = (step, loss)
        weights = self.finite_weights(step)
        if self._world.rank == 0:
            path = self._spec.paths.best
            temporary = path.with_suffix(".tmp")
            with disk_errors(path.parent):
                save_file(weights, temporary, {"step": str(step), "loss": repr(loss)})
                fsync_file(temporary)
                fault_point("train.before_best")
                temporary.replace(path)
                fault_point("train.after_best")
        self._world.wait()

    def keep_best(self) -> int | None:
        """Put the best weights back; gives back their step, or None where the last ones are kept."""
        if self._best is None:
            return None
        self._put(load_file(self._spec.paths.best))
        return self._best[0]

    def finite_weights(self, step: int) -> dict[str, Tensor]:
        """Copies of the trained weights on the CPU, by name, for rank 0; all ranks ask together.

        Raises: TrainingDivergedError where one is not finite.
        """
        copies = {}
        for name, weight in trainable(self._model).items():
            with gathered([weight]):
                if not torch.isfinite(weight).all():
                    raise diverged(self._spec, f"weight {name}", float("nan"), step)
                if self._world.rank == 0:
                    copies[name] = weight.detach().to("cpu", copy=True).contiguous()
        return copies

    def _put(self, saved: Mapping[str, Tensor]) -> None:
        for name, weight in trainable(self._model).items():
            with gathered([weight], changed=True), torch.no_grad():
                weight.copy_(saved[name])


def write_moments(moments: Moments, path: Path) -> None:
    """Into one file, for the round that follows."""
    flat = {
        f"{key}.{name}": tensor.to("cpu", torch.float32).contiguous()
        for key, named in moments.of.items()
        for name, tensor in named.items()
    }
    save_file(flat, path, {"n_updates": str(moments.n_updates)})


def read_moments(path: Path) -> Moments:
    """What `write_moments` wrote."""
    with safe_open(path, "pt") as file:
        n_updates = int(file.metadata()["n_updates"])
        flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    of: dict[str, dict[str, Tensor]] = {key: {} for key in ADAM_KEYS}
    for name, tensor in flat.items():
        key, _, weight = name.partition(".")
        of[key][weight] = tensor
    return Moments(n_updates, of)


def count_trainable(model: nn.Module) -> int:
    """Trained parameters, those of other ranks included."""
    return sum(int(torch.Size(getattr(w, "ds_shape", w.shape)).numel()) for w in trainable(model).values())


def count_linear(model: nn.Module) -> int:
    """Weights of matrix products: all matrices but the embedding's, adapters not among them."""
    found = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and "lora_" not in name:
            found += module.in_features * module.out_features
    return found


def read_best(path: Path) -> tuple[int, float] | None:
    """(step, validation loss) of the best weights so far, if there are any."""
    if not path.exists():
        return None
    with safe_open(path, "pt") as file:
        about = file.metadata()
    return int(about["step"]), float(about["loss"])
