"""Experiment trackers, by way of accelerate's; metrics.jsonl is written whatever is chosen.

Looking for their packages is cheap, and done before any training process starts; they are imported by the
process that reports.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

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


class Trackers:
    """The chosen trackers of one run, started; rank 0 alone has them.

    Args:
        run_name, folder: as in `name_run`.
        settings: what the run was asked for, stored by those trackers that have a place for it.
    """

    def __init__(self, names: Sequence[str], run_name: str, folder: str, settings: Mapping[str, Any]) -> None:
        name_run(run_name, folder)
        self._trackers = [_started(name, run_name) for name in names]
        for tracker in self._trackers:
            if tracker.name != "tensorboard":  # whose table of settings is a run of its own
                tracker.store_init_configuration(dict(settings))

    def log(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Values as curves `<kind>/<name>`; those of a mapping as `<kind>/<name>/<key>`."""
        flat = dict(_flat(kind, values))
        for tracker in self._trackers:
            tracker.log(flat, step=step)

    def close(self) -> None:
        """No more values."""
        for tracker in self._trackers:
            tracker.finish()


def _started(name: str, run_name: str) -> Any:
    from accelerate import tracking

    project = run_name.partition("/")[0]
    made: Any = {
        "tensorboard": lambda: tracking.TensorBoardTracker("", os.environ["TENSORBOARD_LOGGING_DIR"]),
        "wandb": lambda: tracking.WandBTracker(os.environ["WANDB_PROJECT"], name=run_name),
        "trackio": lambda: tracking.TrackioTracker(project, name=run_name),
        "mlflow": lambda: tracking.MLflowTracker(os.environ["MLFLOW_EXPERIMENT_NAME"], run_name=run_name),
    }[name]()
    made.main_process_only = False  # only rank 0 has trackers
    made.start()
    return made


def _flat(kind: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{kind}/{name}", value)
        elif value is not None:
            yield f"{kind}/{name}", value
