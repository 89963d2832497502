"""Experiment trackers: refused before anything starts where their package is missing, fed where it is not."""

from __future__ import annotations

import importlib.util
import os
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from fakes.training_runs import train_here
from fakes.training_student import curve, tiny_model, tiny_spec, tiny_train

from trims_core.config import LaunchConfig, TrainConfig
from trims_core.errors import ConfigError
from trims_core.training import launch, loggers


def test_a_missing_package_is_refused_before_any_process_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "_start", lambda *_: pytest.fail("a process was started"))
    spec = tiny_spec(tmp_path, train=tiny_train(report_to=("mlflow", "tensorboard")))
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"mlflow, tensorboard: not installed.*pip install mlflow tensorboard"
    ):
        launch.run_training(spec, LaunchConfig(), lambda *_: None)


def test_no_tracker_is_the_default_and_one_may_be_named_alone():
    assert TrainConfig().report_to == ()
    assert TrainConfig(report_to="wandb").report_to == ("wandb",)
    loggers.check_loggers(())


@pytest.fixture
def unnamed(monkeypatch):
    """No tracker's variables set, and none left behind."""
    for name in ("TENSORBOARD_LOGGING_DIR", "WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_names_given_by_the_environment_win(unnamed, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    loggers.name_run("demo/trims-s0", "runs")
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "runs/demo/trims-s0"
    assert os.environ["WANDB_PROJECT"] == "mine"
    assert os.environ["MLFLOW_EXPERIMENT_NAME"] == "demo"


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_gets_the_losses_of_metrics_jsonl(tmp_path, unnamed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = tiny_train(max_steps=2, report_to="tensorboard", logging_dir=str(tmp_path / "logs"))
    spec = tiny_spec(tmp_path, train=settings, run_name="tiny/trims-s0")
    train_here(spec)
    events = EventAccumulator(str(tmp_path / "logs" / "tiny" / "trims-s0")).Reload()
    for tag, kind, column in (
        ("train/loss", "train", "loss"),
        ("eval/loss", "eval", "loss"),
        ("train/masked_fraction", "train", "masked_fraction"),
    ):
        expected = {row["step"]: row[column] for row in curve(spec) if row["kind"] == kind}
        found = {event.step: event.value for event in events.Scalars(tag)}
        assert found == pytest.approx(expected, rel=1e-6)


class FakeTracker:
    """What accelerate's trackers take, kept."""

    made: ClassVar[list[FakeTracker]] = []

    def __init__(self, *given, **named):
        self.name, self.given, self.named = type(self).__name__, given, named
        self.logged, self.settings, self.calls = {}, None, []
        self.made.append(self)

    def start(self):
        """Noted."""
        self.calls.append("start")

    def store_init_configuration(self, values):
        """Kept."""
        self.settings = values

    def log(self, values, step):
        """Kept by step."""
        self.logged.setdefault(step, {}).update(values)

    def finish(self):
        """Noted."""
        self.calls.append("finish")


@pytest.fixture
def trackers(monkeypatch, unnamed):
    """Fake classes in place of accelerate's; those that were made."""
    from accelerate import tracking

    FakeTracker.made.clear()
    for place, name in PLACES.items():
        monkeypatch.setattr(tracking, place, type(name, (FakeTracker,), {}))
    return FakeTracker.made


PLACES = {
    "TensorBoardTracker": "tensorboard",
    "WandBTracker": "wandb",
    "TrackioTracker": "trackio",
    "MLflowTracker": "mlflow",
}


def test_every_tracker_is_given_its_names_and_the_curves_of_metrics_jsonl(tmp_path, trackers):
    names = ("tensorboard", "wandb", "trackio", "mlflow")
    settings = tiny_train(max_steps=2, report_to=names, logging_dir=str(tmp_path / "logs"))
    spec = train_here(tiny_spec(tmp_path, train=settings, run_name="tiny/trims-s0"))
    assert [one.name for one in trackers] == list(names)
    board, wandb, trackio, mlflow = trackers
    assert board.given == ("", str(tmp_path / "logs" / "tiny" / "trims-s0"))
    assert (wandb.given, wandb.named) == (("tiny",), {"name": "tiny/trims-s0"})
    assert (trackio.given, trackio.named) == (("tiny",), {"name": "tiny/trims-s0"})
    assert (mlflow.given, mlflow.named) == (("tiny",), {"run_name": "tiny/trims-s0"})
    assert board.settings is None and wandb.settings["seed"] == 0 and "method" in wandb.settings
    for one in trackers:
        assert one.calls == ["start", "finish"] and one.main_process_only is False
        assert one.logged == board.logged
        for row in curve(spec):
            found = one.logged[row["step"]]
            assert found[f"{row['kind']}/loss"] == row["loss"]
            for part, value in row.get("parts", {}).items():
                assert found[f"train/parts/{part}"] == value
    tags = set(board.logged[2])
    assert {"train/loss", "train/lr", "train/parts/content", "train/parts/ends", "eval/loss"} <= tags
    assert {"train/tokens_per_second", "train/peak_memory_mib"} <= tags and "train/mfu" not in tags


def test_ranks_but_the_first_start_no_tracker(tmp_path, trackers):
    from trims_core.training.run import _reporter
    from trims_core.training.world import World

    spec = tiny_spec(tmp_path, train=tiny_train(report_to="wandb"), world_size=2)
    method, model = SimpleNamespace(n_losses=1), tiny_model()
    reporter = _reporter(spec, model, method, 1, 0, None, World(1, 2, torch.device("cpu")))
    reporter.validated(1, 1.0, None)
    reporter.close()
    assert trackers == [] and not spec.paths.metrics.exists()
