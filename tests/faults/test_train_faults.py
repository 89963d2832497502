"""Training that is killed, stopped or diverges: F3, F16 and F20's signals.

Most tests run without DeepSpeed in forked processes; one kills and resumes the real stage with it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import forking, training_cli
from fakes.training_student import adapter_bytes, curve, steps_with_checkpoint, tiny_spec, tiny_train
from safetensors.torch import load_file, save_file

from trims_core.config import LaunchConfig
from trims_core.errors import CheckpointError, TrainingDivergedError
from trims_core.training.checkpoint import find_complete_checkpoint
from trims_core.training.journal import read_metrics
from trims_core.training.launch import run_training
from trims_core.training.run import main
from trims_core.training.spec import TrainSpec
from trims_core.variants import TrimsVariant

pytestmark = pytest.mark.faults


def trained(spec: TrainSpec, fault: str = "") -> int:
    """Exit code of a training process."""
    return forking.run(main, spec.write(), env={"TRIMS_FAULT": fault}).code


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> TrainSpec:
    """A run that nothing disturbed, with LoRA dropout."""
    spec = tiny_spec(tmp_path_factory.mktemp("golden"))
    assert trained(spec) == 0
    return spec


def test_the_golden_run_logged_every_step_and_moved_the_adapter(golden):
    rows = curve(golden)
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if row["kind"] == "eval"] == [0, 2, 4, 6]
    assert all(0 < row["masked_fraction"] < 1 for row in rows if row["kind"] == "train")
    assert len({row["loss"] for row in rows}) == len(rows)
    assert steps_with_checkpoint(golden) == [4, 6]


# site : hit → step of the checkpoint that a rerun must continue from
SAVE_SITES = {
    "train.after_adapter:kill:2": 2,
    "train.after_optimizer:kill:2": 2,
    "train.before_state:kill:2": 2,
    "train.before_complete:kill:2": 2,
    "train.after_complete:kill:2": 4,
    "train.after_step:kill:5": 4,
    "train.after_adapter:kill:1": None,
}


@pytest.mark.parametrize("fault", SAVE_SITES)
def test_killed_while_saving_a_rerun_repeats_the_undisturbed_run_exactly(golden, tmp_path, fault, caplog):
    spec = tiny_spec(tmp_path)
    assert trained(spec, fault) == -signal.SIGKILL
    assert not spec.paths.result.exists()
    found = find_complete_checkpoint(spec.paths.checkpoints)
    assert (found.step if found else None) == SAVE_SITES[fault]
    torn = fault.split(":")[0] in (
        "train.after_adapter",
        "train.after_optimizer",
        "train.before_state",
        "train.before_complete",
    )
    assert ("is skipped: no COMPLETE mark" in caplog.text) == torn
    assert trained(spec) == 0
    assert curve(spec) == curve(golden)
    assert adapter_bytes(spec) == adapter_bytes(golden)


def test_killed_after_the_last_save_only_the_adapter_is_written_again(golden, tmp_path):
    spec = tiny_spec(tmp_path)
    assert trained(spec, "train.before_adapter:kill") == -signal.SIGKILL
    assert not spec.adapter.exists()
    assert trained(spec) == 0
    assert curve(spec) == curve(golden)
    assert adapter_bytes(spec) == adapter_bytes(golden)


KEEPS_BEST: dict[str, Any] = {"keep": "best", "lr": 0.01, "scheduler": "constant", "warmup_ratio": 0.0}
BEST_SITES = [f"{site}:kill:{n}" for site in ("train.before_best", "train.after_best") for n in (1, 2, 3)]
"""The best weights are replaced at steps 0, 2 and 4."""


@pytest.fixture(scope="module")
def best_golden(tmp_path_factory: pytest.TempPathFactory) -> TrainSpec:
    """An undisturbed run that keeps the best weights: those of step 4, of validations at 0, 2, 4 and 6."""
    spec = tiny_spec(tmp_path_factory.mktemp("best"), train=tiny_train(**KEEPS_BEST))
    assert trained(spec) == 0
    losses = {row["step"]: row["loss"] for row in curve(spec) if row["kind"] == "eval"}
    assert losses[0] > losses[2] > losses[4] < losses[6]
    assert kept_step(spec) == 4
    return spec


@pytest.mark.parametrize("fault", [*BEST_SITES, *SAVE_SITES, "train.before_adapter:kill"])
def test_killed_while_the_best_weights_are_kept_a_rerun_keeps_the_same(best_golden, tmp_path, fault):
    spec = tiny_spec(tmp_path, train=tiny_train(**KEEPS_BEST))
    assert trained(spec, fault) == -signal.SIGKILL
    assert trained(spec) == 0
    assert curve(spec) == curve(best_golden)
    assert kept_step(spec) == kept_step(best_golden)
    assert adapter_bytes(spec) == adapter_bytes(best_golden)


def kept_step(spec: TrainSpec) -> int:
    return int(json.loads(spec.paths.result.read_text())["kept_step"])


def test_best_weights_do_not_outlive_the_checkpoints_of_their_run(best_golden, tmp_path):
    """They may be of another number of processes, and rounded otherwise."""
    spec = tiny_spec(tmp_path, train=tiny_train(**KEEPS_BEST))
    others = {name: weight + 1 for name, weight in load_file(best_golden.paths.best).items()}
    save_file(others, spec.paths.best, {"step": "4", "loss": "0.001"})
    assert trained(spec) == 0
    assert curve(spec) == curve(best_golden)
    assert adapter_bytes(spec) == adapter_bytes(best_golden)


def test_sigterm_saves_after_the_step_exits_143_and_a_rerun_continues(golden, tmp_path):
    spec = tiny_spec(tmp_path, train=tiny_train(save_steps=100))
    assert trained(spec, "train.after_step:term:3") == 143
    assert steps_with_checkpoint(spec) == [3]
    assert trained(spec) == 0
    assert curve(spec) == curve(golden)
    assert adapter_bytes(spec) == adapter_bytes(golden)


def test_ctrl_c_saves_the_step_that_was_logged_last(tmp_path):
    spec = tiny_spec(tmp_path, train=tiny_train(save_steps=10_000, max_steps=10_000))
    process = forking.start(main, spec.write())
    process.wait_until(lambda: any(row["kind"] == "train" for row in read_metrics(spec.paths.metrics)))
    os.kill(process.pid, signal.SIGINT)
    assert process.ended().code == 143
    assert steps_with_checkpoint(spec) == [read_metrics(spec.paths.metrics)[-1]["step"]]


def test_the_stop_file_does_what_a_signal_does(golden, tmp_path):
    spec = tiny_spec(tmp_path, train=tiny_train(save_steps=100))
    spec.paths.stop.touch()
    assert trained(spec) == 143
    (step,) = steps_with_checkpoint(spec)
    assert step < 6
    spec.paths.stop.unlink()
    assert trained(spec) == 0
    assert curve(spec) == curve(golden)
    assert adapter_bytes(spec) == adapter_bytes(golden)


def test_divergence_ends_the_run_and_the_last_good_checkpoint_stays(tmp_path):
    train = tiny_train(
        max_steps=40, lr=1e30, warmup_ratio=1.0, scheduler="constant", save_steps=1, max_grad_norm=1e30
    )
    spec = tiny_spec(tmp_path, train=train)
    assert trained(spec) == TrainingDivergedError.exit_code
    said = json.loads(spec.paths.error(0).read_text())
    assert said["class"] == "TrainingDivergedError"
    kept = find_complete_checkpoint(spec.paths.checkpoints)
    assert kept is not None
    assert f"checkpoint of step {kept.step} is kept" in said["message"] and "train.lr" in said["message"]
    assert not spec.paths.result.exists() and not spec.adapter.exists()
    for step in steps_with_checkpoint(spec):
        weights = load_file(spec.paths.checkpoints / f"checkpoint-{step}" / "trainable.safetensors")
        assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_a_checkpoint_with_non_finite_weights_is_never_marked(tmp_path):
    # weights overflow in the update of a step whose own loss was still finite
    train = tiny_train(
        lr=1e19, weight_decay=1e20, warmup_ratio=0.0, scheduler="constant", save_steps=1, eval_steps=9
    )
    spec = tiny_spec(tmp_path, train=train)
    assert trained(spec) == TrainingDivergedError.exit_code
    assert "weight" in json.loads(spec.paths.error(0).read_text())["message"]
    assert steps_with_checkpoint(spec) == []


def test_masks_that_hide_nothing_train_on_nothing_and_stay_finite(tmp_path):
    nothing = TrimsVariant(rho=1.0, p_low=0.0, p_high=0.0)
    spec = tiny_spec(tmp_path, variant=nothing, train=tiny_train(weight_decay=0.0, pads="none"))
    assert trained(spec) == 0
    rows = [row for row in curve(spec) if row["kind"] == "train"]
    assert {row["loss"] for row in rows} == {0.0} == {row["masked_fraction"] for row in rows}
    assert {row["grad_norm"] for row in rows} == {0.0}


def test_everything_hidden_and_an_empty_bucket_train_normally(tmp_path):
    spec = tiny_spec(tmp_path, variant=TrimsVariant(rho=1.0, p_low=1.0, p_high=1.0), n_buckets=9)
    assert trained(spec) == 0
    assert {row["masked_fraction"] for row in curve(spec) if row["kind"] == "train"} == {1.0}


def test_another_number_of_processes_is_refused_before_anything_starts(golden, tmp_path):
    said: list[tuple[int, int, str]] = []
    other = golden.model_copy(update={"world_size": 2, "engine": "deepspeed"})
    before = golden.paths.spec.read_bytes()
    with pytest.raises(
        CheckpointError, match=r"by 1 training process\(es\), this run has\s+2.*processes to\s+1"
    ):
        run_training(other, LaunchConfig(processes=2), lambda *what: said.append(what))
    assert said == []
    assert golden.paths.spec.read_bytes() == before


@pytest.mark.e2e
def test_deepspeed_killed_and_stopped_in_the_real_stage_gives_the_undisturbed_adapter(tmp_path):
    """The stage process is killed (its ranks must go with it), then stopped by SIGTERM, then finishes."""
    config, _, store = training_cli.prepare(tmp_path / "disturbed", max_steps=8)
    process = training_cli.start(config)
    wait_until(lambda: steps_in_attempts(store.root) >= 2)
    ranks = processes_below(process.pid)
    assert ranks
    os.kill(process.pid, signal.SIGKILL)
    training_cli.ended(process)
    wait_until(lambda: not any(alive(pid) for pid in ranks), 20)
    code, said = training_cli.ended(
        training_cli.start(config, env={"TRIMS_FAULT": "train.after_step:term:2"})
    )
    assert code == 143, said
    code, said = training_cli.ended(
        training_cli.start(config, env={"TRIMS_FAULT": "train.before_record:kill"})
    )
    assert code == -signal.SIGKILL, said
    code, said = training_cli.ended(training_cli.start(config))
    assert code == 0 and "starting training processes" not in said, said
    undisturbed, _, _ = training_cli.prepare(tmp_path / "golden", max_steps=8)
    code, said = training_cli.ended(training_cli.start(undisturbed))
    assert code == 0 and "starting training processes" in said, said
    assert result_bytes(tmp_path / "disturbed") == result_bytes(tmp_path / "golden")


def result_bytes(root: Path) -> dict[str, bytes]:
    (adapter,) = [path.parent for path in (root / "store" / "units" / "train").glob("*/unit.json")]
    measured = ("unit.json", "times.jsonl")
    return {path.name: path.read_bytes() for path in adapter.iterdir() if path.name not in measured}


def steps_in_attempts(root: Path) -> int:
    attempts = root / "units" / "train" / ".attempts"
    found = [read_metrics(path) for path in attempts.glob("*/scratch/metrics.jsonl")]
    return max((rows[-1]["step"] for rows in found if rows), default=0)


def processes_below(pid: int) -> list[int]:
    """Ids of a process's children, grandchildren and so on."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in children for found in (int(child), *processes_below(int(child)))]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(happened: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
