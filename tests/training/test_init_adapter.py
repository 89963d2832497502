"""Training that goes on from a given adapter: its weights, its shape, the key, the card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from fakes import training_cli
from fakes.training_runs import train_here
from fakes.training_student import CONFIG, curve, tiny_model, tiny_spec, tiny_train
from safetensors.torch import load_file, save_file
from torch import nn

from trims_core.config import LoraSettings
from trims_core.errors import ConfigError
from trims_core.graph import build_graph, node_named
from trims_core.settings import load_config, parse_config
from trims_core.stage import node_key
from trims_core.store import Store
from trims_core.students import load_student, save_official
from trims_core.training.card import model_card
from trims_core.training.settings import outside_inputs, train_settings
from trims_core.training.stage import SPEC
from trims_core.training.trainable import new_trainable

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run, whose adapter others go on from."""
    return train_here(tiny_spec(tmp_path_factory.mktemp("first"), train=tiny_train(max_steps=4)))


def continued(folder, first, **train):
    """A run that goes on from the first one's adapter."""
    settings = {"init_adapter": str(first.adapter), "max_steps": 2, **train}
    return tiny_spec(folder, train=tiny_train(**settings))


def test_it_begins_where_the_adapter_was_and_gradients_reach_all_of_it(tmp_path, first):
    again = train_here(continued(tmp_path, first, lr=1e-3))
    evals = [[row["loss"] for row in curve(spec) if row["kind"] == "eval"] for spec in (first, again)]
    assert evals[1][0] == pytest.approx(evals[0][-1], rel=1e-6)
    before, after = (load_file(spec.adapter / WEIGHTS) for spec in (first, again))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    configs = [json.loads((spec.adapter / "adapter_config.json").read_text()) for spec in (first, again)]
    for name in ("r", "lora_alpha", "lora_dropout", "target_modules"):
        assert configs[0][name] == configs[1][name]


def test_dropout_is_that_of_the_settings_although_the_adapter_was_loaded_without(tmp_path, first):
    for dropout, kind in ((0.1, nn.Dropout), (0.0, nn.Identity)):
        lora = LoraSettings(r=4, alpha=8, dropout=dropout)
        spec = continued(tmp_path / str(dropout), first, lora=lora)
        model = new_trainable(load_student(spec.student.model), spec)
        found = [one for module in model.modules() for one in getattr(module, "lora_dropout", {}).values()]
        assert {type(one) for one in found} == {kind}
        assert all(one.p == dropout for one in found if dropout)
        trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
        assert trained and all("lora_" in name for name in trained)


def test_modules_that_the_targets_do_not_name_are_refused_not_trained_or_dropped(tmp_path, first):
    fewer = LoraSettings(r=4, alpha=8, targets=("attention",))
    message = r"wraps 14 modules.*attention are 8; they differ in 6, e\.g\. model\.transformer\.blocks"
    with pytest.raises(ConfigError, match=message):
        train_here(continued(tmp_path / "fewer", first, lora=fewer))
    half = Path(shutil.copytree(first.adapter, tmp_path / "half"))
    weights = {name: one for name, one in load_file(half / WEIGHTS).items() if "q_proj" in name}
    save_file(weights, half / WEIGHTS)
    with pytest.raises(ConfigError, match=r"wraps 2 modules.*all-linear are 14"):
        train_here(continued(tmp_path / "more", first, init_adapter=str(half)))


def test_an_adapter_of_another_student_is_refused(tmp_path, first):
    spec = continued(tmp_path, first)
    wide = {**CONFIG, "d_model": 48}
    model = tiny_model().student_family.read(wide, {}, "wide").new_model()
    save_official(model, wide, None, Path(spec.student.model))
    with pytest.raises(ConfigError, match="does not fit this student"):
        train_here(spec)


def inputs_of(tmp_path, adapter, **train):
    """(settings, outside inputs) of a training that goes on from an adapter; what is wrong is told here."""
    config = parse_config(training_cli.raw_config(tmp_path, init_adapter=str(adapter), **train))
    settings = train_settings(config, node_named(build_graph(config), training_cli.NODE))
    return settings, outside_inputs(settings, Store(tmp_path / "store").digests)


WRONG = {
    "rank": ({"r": 5, "alpha": 8}, r"has r 4 and alpha 8, train\.lora says r 5 and alpha 8; set train\.lora"),
    "alpha": ({"r": 4, "alpha": 9.5}, r"train\.lora says r 4 and alpha 9\.5"),
    "config": ("adapter_config.json", r"train\.init_adapter: \S+adapter_config\.json: no such file"),
    "weights": (WEIGHTS, r"train\.init_adapter: \S+adapter_model\.safetensors: no such file"),
    "folder": ("all", r"train\.init_adapter: \S+: no such file"),
    "cut": ("cut", r"adapter_model\.safetensors: cannot be read"),
    "checkpoint": ("whole", r"train\.init_adapter: \S+student: holds a whole checkpoint; expected a PEFT"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_adapter_that_cannot_be_gone_on_from_is_told_before_anything_is_loaded(tmp_path, first, name):
    change, message = WRONG[name]
    folder = Path(shutil.copytree(first.adapter, tmp_path / "given"))
    if change == "all":
        shutil.rmtree(folder)
    elif change == "cut":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    elif change == "whole":
        training_cli.raw_config(tmp_path)
        folder = tmp_path / "student"
    elif isinstance(change, str):
        (folder / change).unlink()
    with pytest.raises(ConfigError, match=message):
        inputs_of(tmp_path, folder, **({"lora": change} if isinstance(change, dict) else {}))


def test_the_key_holds_the_adapters_bytes_and_not_its_place(tmp_path, first, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path / "b"))
    for name in ("a", "b"):
        shutil.copytree(first.adapter, tmp_path / name)

    def fingerprint(adapter):
        config = parse_config(training_cli.raw_config(tmp_path, init_adapter=adapter))
        node = node_named(build_graph(config), training_cli.NODE)
        parents = MappingProxyType({"buckets": type("Buckets", (), {"content_digest": "0" * 64})()})
        return node_key(Store(tmp_path / "store"), SPEC, config, node, parents).fingerprint

    same = fingerprint(str(tmp_path / "a"))
    (tmp_path / "b" / "README.md").write_text("another card")
    (tmp_path / "b" / "more").mkdir()
    (tmp_path / "b" / "more" / "other.safetensors").write_bytes(b"")
    assert fingerprint("~/a") == fingerprint("$PLACE") == fingerprint("${PLACE}") == same
    assert fingerprint(None) != same
    weights = load_file(tmp_path / "b" / WEIGHTS)
    save_file({name: weight + 1 for name, weight in weights.items()}, tmp_path / "b" / WEIGHTS)
    assert fingerprint("$PLACE") != same


def test_an_unset_name_in_the_path_is_told(monkeypatch):
    monkeypatch.delenv("NO_SUCH_PLACE", raising=False)
    with pytest.raises(ConfigError, match=r"train\.init_adapter: \$NO_SUCH_PLACE is not set"):
        load_config("configs/demo.yaml", ["train.init_adapter=$NO_SUCH_PLACE/adapter"], env={})


def test_the_card_says_from_which_adapter(tmp_path, first):
    settings, inputs = inputs_of(tmp_path, first.adapter)
    counts = {"n_examples": 20, "n_validation": 4, "n_truncated": 0, "n_without_completion": 0}
    result = {"steps": 6, "kept_step": 6, "trainable_parameters": 1, "counts": counts}
    finals = {"train_loss": 1.0, "eval_loss": None, "eval_end_loss": None}
    card = model_card(settings, {"k": 4, "metric": "nll"}, {**inputs, "buckets": "def"}, result, finals)
    assert f"| started from | the adapter with digest {inputs['init_adapter'][:12]} |" in card
    assert inputs["init_adapter"] not in card and str(tmp_path) not in card
