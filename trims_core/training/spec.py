"""What one training run is: everything its processes need, as one JSON file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trims_core.config import StudentConfig, TrainingConfig
from trims_core.sections import Section
from trims_core.store.durable import write_atomically
from trims_core.variants import Answers, EndsConfig, Variant

Engine = Literal["deepspeed", "plain"]


@dataclass(frozen=True)
class RunPaths:
    """Files of a run, all below one folder that survives crashes."""

    folder: Path

    @property
    def spec(self) -> Path:
        """The run's settings."""
        return self.folder / "spec.json"

    @property
    def checkpoints(self) -> Path:
        """Folders checkpoint-<step>."""
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> Path:
        """One JSON row per optimizer step and per validation."""
        return self.folder / "metrics.jsonl"

    @property
    def progress(self) -> Path:
        """Where rank 0 is."""
        return self.folder / "progress.json"

    @property
    def stop(self) -> Path:
        """Its existence asks the run to save and end."""
        return self.folder / "stop"

    @property
    def best(self) -> Path:
        """Weights of the lowest validation loss so far, where they are kept."""
        return self.folder / "best.safetensors"

    @property
    def result(self) -> Path:
        """Counts and final values, written by rank 0 when all steps are done."""
        return self.folder / "result.json"

    def log(self, rank: int) -> Path:
        """Standard output and error of one process."""
        return self.folder / f"rank-{rank}.log"

    def error(self, rank: int) -> Path:
        """Class and message of the error that ended one process."""
        return self.folder / f"error-{rank}.json"


class TrainSpec(Section):
    """One adapter to train, or one checkpoint where every weight is.

    engine `plain` is one process without DeepSpeed: the same loop and losses, for small models and tests.
    """

    train: TrainingConfig
    variant: Variant
    ends: EndsConfig
    student: StudentConfig
    seed: int
    deepspeed: dict[str, Any]
    """DeepSpeed's configuration; read with engine `deepspeed`."""
    shards: tuple[Path, ...]
    """Of buckets; of tokens where there is no teacher, or where the answers are rollouts."""
    n_buckets: int
    """0: the shards are tokens."""
    rollouts: tuple[Path, ...] = ()
    rollout_grades: tuple[Path, ...] = ()
    moments: Path | None = None
    """Adam's, of the round before, to go on with."""
    keeps_moments: bool = False
    references: tuple[Path, ...] = ()
    """Prompts that a frozen reference reads in place of the student's own; empty: it reads the student's."""
    shown_prompts: tuple[Path, ...] = ()
    """Prompts that the student reads in place of those that were answered."""
    answers: Answers = "right"
    folder: Path
    """For checkpoints and logs; survives crashes."""
    adapter: Path
    """Where the result is written: the adapter, or the checkpoint."""
    world_size: int = 1
    device: str = "cpu"
    engine: Engine = "deepspeed"
    run_name: str = "trims"
    """`<config name>/<variant>-s<seed>`: what experiment trackers call the run."""

    @property
    def paths(self) -> RunPaths:
        """The run's files."""
        return RunPaths(self.folder)

    def write(self) -> Path:
        """Write the spec into the run's folder; gives back its path."""
        write_atomically(self.paths.spec, self.model_dump_json(indent=1).encode())
        return self.paths.spec
