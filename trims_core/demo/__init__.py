"""The demo's world: word problems, two tokenizers, a small teacher and a small student, all made from a seed.

Covered: everything shipped in data/demo. Not covered: running the pipeline on it (configs/demo.yaml).
The functions import torch and transformers only when they are called.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

DEFAULT_SEED = 7

__all__ = ["DEFAULT_SEED", "train_models", "write_corpus", "write_problems"]


def write_corpus(out_dir: Path, seed: int = DEFAULT_SEED) -> dict[str, Path]:
    """Writes train.jsonl (fine-tuning set) and test.jsonl (held-out problems); gives back their paths."""
    from trims_core.demo.corpus_files import write_corpus as write

    return write(out_dir, seed)


def write_problems(out: Path, count: int, seed: int, prefix: str, without: Sequence[Path] = ()) -> Path:
    """Writes a fresh set of held-out problems, without the questions of some JSONL files; returns `out`."""
    from trims_core.demo.corpus_files import write_problems as write

    return write(out, count, seed, prefix, without)


def train_models(
    out_dir: Path,
    seed: int,
    progress: Callable[[str, int, int], None],
    which: Literal["all", "teacher", "student"] = "all",
    work_dir: Path | None = None,
    workers: int = 2,
) -> dict[str, Path]:
    """Trains teacher and student from scratch (hours on two cores) and gives back their folders by role.

    The same call continues an interrupted training.

    Args:
        out_dir: gets the folders teacher/ and student/.
        seed: decides weights, problems and masks.
        progress: called with a note, steps done and steps in all, at least every ten seconds.
        which: train only one of the two.
        work_dir: for checkpoints of the trainings; default `work/<name>` beside `out_dir`.
        workers: processes of one thread each that share the rows of a step.
    """
    from trims_core.demo.models import train_models as train

    return train(out_dir, seed, progress, which, work_dir, workers)
