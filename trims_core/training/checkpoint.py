"""Checkpoints that are known to be whole: marked last, searched newest first.

    checkpoints/checkpoint-40/   adapter, optimizer shards, state.json
                                 COMPLETE: step, processes and the size of every file, written last

The libraries' own search takes the highest number without looking inside. Covered: a crash at any moment
of a save, files cut short or lost afterwards. Not covered: bytes changed in place.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trims_core.errors import CheckpointError, TrainingDivergedError
from trims_core.store.durable import fsync_file, write_atomically
from trims_core.training.spec import TrainSpec

logger = logging.getLogger(__name__)

COMPLETE_NAME: Final = "COMPLETE"
FOLDER_PREFIX: Final = "checkpoint-"
N_KEPT: Final = 2
STATE_NAME: Final = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: optimizer steps done, and how many processes wrote it."""

    path: Path
    step: int
    world_size: int


def mark_complete(folder: Path, step: int, world_size: int) -> None:
    """Flush every file of a checkpoint, then write its mark. Call once, after all ranks have written."""
    sizes = {}
    for path in _files(folder):
        fsync_file(path)
        sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    mark = {"step": step, "world_size": world_size, "files": sizes}
    write_atomically(folder / COMPLETE_NAME, json.dumps(mark, indent=1, sort_keys=True).encode())


def find_complete_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint; every newer one that is skipped is logged with the reason."""
    for path in _newest_first(folder):
        found = _read(path)
        if isinstance(found, Checkpoint):
            return found
        logger.warning("checkpoint %s is skipped: %s", path.name, found)
    return None


def check_world_size(checkpoint: Checkpoint, world_size: int) -> None:
    """Refuse to resume with another number of processes, which ZeRO's optimizer shards do not allow.

    Raises:
        CheckpointError: naming both numbers and the two ways on.
    """
    if checkpoint.world_size != world_size:
        raise CheckpointError(
            f"{checkpoint.path}: written by {checkpoint.world_size} training process(es), this run has"
            f" {world_size}; optimizer shards cannot be redistributed. Set train.launch.processes to"
            f" {checkpoint.world_size} to continue at step {checkpoint.step}, or remove"
            f" {checkpoint.path.parent} to train from the start"
        )


def diverged(spec: TrainSpec, what: str, value: float, step: int) -> TrainingDivergedError:
    """The error for a value that is not finite at an optimizer step."""
    kept = find_complete_checkpoint(spec.paths.checkpoints)
    kept_text = f"the checkpoint of step {kept.step} is kept in {kept.path}" if kept else "no checkpoint yet"
    return TrainingDivergedError(
        f"{what} is {value} at optimizer step {step}, expected a finite number; {kept_text}. Lower train.lr"
        f" (now {spec.train.lr:g}) or train.max_grad_norm (now {spec.train.max_grad_norm:g}), or raise"
        " train.warmup_ratio"
    )


def prune(folder: Path, n_kept: int = N_KEPT) -> None:
    """Remove all but the newest whole checkpoints, and everything older that is not whole."""
    whole = [path for path in _newest_first(folder) if isinstance(_read(path), Checkpoint)]
    if len(whole) < n_kept:
        return
    oldest_kept = _step(whole[n_kept - 1])
    for path in _newest_first(folder):
        if _step(path) < oldest_kept:
            # without its mark a half-removed folder is never taken for whole
            (path / COMPLETE_NAME).unlink(missing_ok=True)
            shutil.rmtree(path)


def _read(path: Path) -> Checkpoint | str:
    """The checkpoint in a folder, or why it is not whole."""
    try:
        mark = json.loads((path / COMPLETE_NAME).read_bytes())
    except FileNotFoundError:
        return f"no {COMPLETE_NAME} mark (the save was interrupted)"
    except ValueError:
        return f"its {COMPLETE_NAME} mark is not JSON"
    if STATE_NAME not in mark["files"]:
        return f"its mark lists no {STATE_NAME}"
    for name, size_bytes in mark["files"].items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size_bytes:
            return f"{name} has {file.stat().st_size} bytes, expected {size_bytes}"
    return Checkpoint(path, mark["step"], mark["world_size"])


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(FOLDER_PREFIX)]
    return sorted((path for path in found if path.name.removeprefix(FOLDER_PREFIX).isdigit()), key=_step)[
        ::-1
    ]


def _step(path: Path) -> int:
    return int(path.name.removeprefix(FOLDER_PREFIX))


def _files(folder: Path) -> list[Path]:
    found = [Path(place) / name for place, _, names in os.walk(folder) for name in names]
    return sorted(path for path in found if path.name != COMPLETE_NAME)
