"""Experiment trackers: refused before anything starts where their package is missing, fed where it is not."""

from __future__ import annotations

import importlib.util
import os

import pytest
from fakes.training_runs import train_here
from fakes.training_student import curve, tiny_spec, tiny_train

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
