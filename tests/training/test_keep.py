"""train.keep: best: the weights of the lowest validation loss are the result, and it says of which step."""

from __future__ import annotations

import json

import pytest
import torch
from fakes import training_cli
from fakes.training_runs import train_here
from fakes.training_student import adapter_bytes, curve, tiny_spec, tiny_train, write_bucket_shards
from safetensors.torch import load_file

from trims_core.errors import ConfigError
from trims_core.settings import parse_config
from trims_core.training.loop import Loop
from trims_core.training.saving import read_best


def kept_step(spec):
    return json.loads(spec.paths.result.read_text())["kept_step"]


def scripted(monkeypatch, losses):
    """Validation losses by step, in place of those that are computed."""

    def validate(loop, step):
        loop.reporter.validated(step, losses[step], None)
        loop.saver.validated(step, losses[step])

    monkeypatch.setattr(Loop, "validate", validate)


def test_a_run_whose_validation_loss_rises_again_keeps_the_earlier_weights(tmp_path, monkeypatch):
    scripted(monkeypatch, {0: 4.0, 2: 3.5, 4: 3.0, 6: 3.2})
    spec = train_here(tiny_spec(tmp_path, train=tiny_train(keep="best")))
    assert kept_step(spec) == 4
    of_step_4, last = (
        load_file(spec.paths.checkpoints / f"checkpoint-{step}" / "trainable.safetensors") for step in (4, 6)
    )
    found = {
        tensor.numpy().tobytes() for tensor in load_file(spec.adapter / "adapter_model.safetensors").values()
    }
    assert found == {tensor.numpy().tobytes() for tensor in of_step_4.values()}
    assert all(not torch.equal(of_step_4[name], last[name]) for name in last)


def test_what_is_kept_has_the_lowest_loss_that_the_run_has_seen(tmp_path):
    rising = {"lr": 1.0, "scheduler": "constant", "warmup_ratio": 0.0}
    spec = train_here(tiny_spec(tmp_path, train=tiny_train(keep="best", **rising)))
    losses = {row["step"]: row["loss"] for row in curve(spec) if row["kind"] == "eval"}
    assert kept_step(spec) == min(losses, key=losses.__getitem__) < 6
    assert read_best(spec.paths.best) == (kept_step(spec), min(losses.values()))


def test_of_equal_losses_the_earliest_is_kept_and_the_last_where_it_is_the_lowest(tmp_path, monkeypatch):
    scripted(monkeypatch, {0: 4.0, 2: 3.0, 4: 3.0, 6: 3.0})
    assert kept_step(train_here(tiny_spec(tmp_path / "equal", train=tiny_train(keep="best")))) == 2
    scripted(monkeypatch, {0: 4.0, 2: 3.0, 4: 2.0, 6: 1.0})
    best, last = (
        train_here(tiny_spec(tmp_path / keep, train=tiny_train(keep=keep))) for keep in ("best", "last")
    )
    assert kept_step(best) == kept_step(last) == 6
    assert adapter_bytes(best) == adapter_bytes(last)


def test_the_last_step_is_looked_at_so_that_a_short_run_does_not_keep_what_it_began_with(tmp_path):
    spec = train_here(tiny_spec(tmp_path, train=tiny_train(keep="best", eval_steps=100, max_steps=12)))
    assert [row["step"] for row in curve(spec) if row["kind"] == "eval"] == [0, 12]
    assert kept_step(spec) == 12
    other = train_here(tiny_spec(tmp_path / "last", train=tiny_train(eval_steps=100, max_steps=2)))
    assert [row["step"] for row in curve(other) if row["kind"] == "eval"] == [0]


def test_without_a_validation_share_nothing_can_be_called_best(tmp_path):
    raw = training_cli.raw_config(tmp_path, keep="best", validation_fraction=0.0)
    message = r"train: keep: best with validation_fraction 0.*set\s+validation_fraction"
    with pytest.raises(ConfigError, match=message):
        parse_config(raw)


def test_one_example_alone_leaves_none_to_validate_on(tmp_path):
    spec = tiny_spec(tmp_path, train=tiny_train(keep="best"))
    one = write_bucket_shards(tmp_path / "one", n_examples=1, n_shards=1)
    with pytest.raises(ConfigError, match=r"keep: best with 1 example\(s\).*two or more"):
        train_here(spec.model_copy(update={"shards": one}))
