"""Experiment trackers that Hugging Face's Trainer reports to; metrics.jsonl is written whatever is chosen.

Imports no tracker: looking for their packages is cheap, and done before any training process starts.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trims_core.errors import ConfigError

PACKAGES: Final = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}
"""Tracker -> packages of which one is enough."""


def check_loggers(names: Sequence[str]) -> None:
    """Raises ConfigError where a tracker's package is not installed, naming all that are missing."""
    missing = [
        name for name in names if not any(importlib.util.find_spec(package) for package in PACKAGES[name])
    ]
    if missing:
        packages = " ".join(PACKAGES[name][0] for name in missing)
        raise ConfigError(
            f"train.report_to: {', '.join(missing)}: not installed; run `pip install {packages}`, or take"
            " it out of train.report_to (metrics.jsonl is written anyway)"
        )


def name_run(run_name: str, folder: str) -> None:
    """Tell the trackers, by the variables they read, where this run belongs; what is set already wins.

    Args:
        run_name: `<config name>/<variant>-s<seed>`; the config's name becomes the project.
        folder: where TensorBoard's files go, below it by run name.
    """
    project = run_name.partition("/")[0]
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(Path(folder) / run_name))
    os.environ.setdefault("WANDB_PROJECT", project)
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", project)
