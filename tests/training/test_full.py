"""Every weight trained: float32 copies, exact resume, a checkpoint that is loaded again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fakes import training_cli
from fakes.training_runs import deepspeed_run, train_here
from fakes.training_student import (
    CONFIG,
    curve,
    same_curves,
    tiny_model,
    tiny_spec,
    tiny_train,
)
from safetensors.torch import load_file

from trims_core.errors import ConfigError, LaunchError
from trims_core.graph import build_graph, node_named
from trims_core.settings import parse_config
from trims_core.students import load_student, save_official
from trims_core.training.settings import train_settings

FULL = {"lora": None, "lr": 1e-3}
TOO_SMALL = {"lora": None, "lr": 2e-5, "scheduler": "constant", "warmup_ratio": 0.0, "weight_decay": 0.0}
"""Updates of which bfloat16 weights would lose nearly all."""


def weights_of(spec):
    return load_file(spec.adapter / "model.safetensors")


def same_weights(left, right):
    one, two = weights_of(left), weights_of(right)
    for name in one.keys() | two.keys():
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=2e-5)
    return bool(one)


def share_changed(spec):
    """Of all weights, as they are written."""
    before = load_file(Path(spec.student.model) / "model.safetensors")
    changed = [
        weights_of(spec)[name] != before[name].to(weight.dtype) for name, weight in weights_of(spec).items()
    ]
    return sum(int(one.sum()) for one in changed) / sum(one.numel() for one in changed)


def test_every_weight_is_trained_embeddings_and_head_included_and_the_result_loads_as_a_student(tmp_path):
    spec = train_here(tiny_spec(tmp_path, train=tiny_train(**FULL, max_steps=12, eval_steps=12)))
    assert sorted(path.name for path in spec.adapter.iterdir()) == ["config.json", "model.safetensors"]
    before, after = load_file(Path(spec.student.model) / "model.safetensors"), weights_of(spec)
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    first, last = (row["loss"] for row in curve(spec) if row["kind"] == "eval")
    assert last < first
    result = json.loads(spec.paths.result.read_text())
    assert result["trainable_parameters"] == sum(weight.numel() for weight in before.values())
    student, ids_BL = load_student(str(spec.adapter)), torch.arange(10)[None]
    assert not torch.allclose(student.forward(ids_BL), load_student(spec.student.model).forward(ids_BL))


def test_a_head_that_is_the_embedding_stays_it(tmp_path):
    spec = tiny_spec(tmp_path, train=tiny_train(**FULL, max_steps=2))
    family = tiny_model().student_family
    tied = family.read({**CONFIG, "weight_tying": True}, {}, "tied").new_model()
    save_official(tied, {**CONFIG, "weight_tying": True}, None, Path(spec.student.model))
    train_here(spec)
    assert not any("ff_out" in name and "blocks" not in name for name in weights_of(spec))
    before = load_file(Path(spec.student.model) / "model.safetensors")
    assert all(not torch.equal(before[name], weight) for name, weight in weights_of(spec).items())
    model = load_student(str(spec.adapter)).model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_one_batch_or_four_accumulated_give_the_same_gradients(tmp_path):
    settings = [tiny_train(**FULL, micro_batch_size=n, length_window=1) for n in (8, 2)]
    whole, split = (
        train_here(tiny_spec(tmp_path / str(i), train=chosen)) for i, chosen in enumerate(settings)
    )
    assert same_curves(whole, split, 1e-4, split=True)
    assert same_weights(whole, split)


def test_in_bfloat16_updates_smaller_than_the_weights_spacing_add_up(tmp_path):
    spec = tiny_spec(tmp_path, train=tiny_train(**TOO_SMALL, max_steps=12))
    spec = spec.model_copy(update={"student": spec.student.model_copy(update={"dtype": "bfloat16"})})
    train_here(spec)
    assert {weight.dtype for weight in weights_of(spec).values()} == {torch.bfloat16}
    assert share_changed(spec) > 0.5


def test_the_best_checkpoint_is_kept_in_the_students_type(tmp_path):
    spec = tiny_spec(tmp_path, train=tiny_train(**{**FULL, "lr": 1.0}, keep="best"))
    train_here(spec)
    kept = json.loads(spec.paths.result.read_text())["kept_step"]
    losses = {row["step"]: row["loss"] for row in curve(spec) if row["kind"] == "eval"}
    assert kept == min(losses, key=lambda step: losses[step]) != 6


@pytest.fixture(scope="module")
def reference_run(tmp_path_factory):
    """One DeepSpeed rank in float32."""
    return deepspeed_run(tmp_path_factory.mktemp("full"), 1, micro_batch_size=2, **FULL)[0]


@pytest.mark.e2e
def test_deepspeed_gives_what_plain_pytorch_gives_in_one_process_and_in_two(tmp_path, reference_run):
    train = tiny_train(**FULL, micro_batch_size=2, max_steps=4, save_steps=4, length_window=1)
    plain = train_here(tiny_spec(tmp_path / "plain", train=train))
    assert same_curves(plain, reference_run, 1e-4)
    assert same_weights(plain, reference_run)
    two, _ = deepspeed_run(tmp_path / "two", 2, micro_batch_size=2, **FULL)
    assert same_curves(reference_run, two, 1e-4, split=True)
    assert same_weights(reference_run, two)


@pytest.mark.e2e
def test_each_rank_holds_its_share_of_the_float32_copy_and_of_adams_moments(tmp_path):
    """What training/estimate.py says, against what two ranks have written."""
    for dtype in ("bfloat16", "float32"):
        spec, _ = deepspeed_run(tmp_path / dtype, 2, micro_batch_size=2, dtype=dtype, **FULL, max_steps=1)
        n_weights = sum(weight.numel() for weight in weights_of(spec).values())
        for file in spec.paths.checkpoints.glob("*/*/*optim_states.pt"):
            state = torch.load(file, weights_only=False)["optimizer_state_dict"]
            found = [*tensors_in(state["single_partition_of_fp32_groups"])]
            found += [*tensors_in(state["base_optimizer_state"])]
            held = sum(one.numel() * one.element_size() for one in found if one.dim())
            assert held == pytest.approx(12 * n_weights / 2, rel=0.02)


def tensors_in(value):
    """All tensors of nested containers."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(one)


@pytest.mark.e2e
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_killed_under_deepspeed_in_bfloat16_a_rerun_gives_the_undisturbed_bytes(
    tmp_path, n_ranks, monkeypatch
):
    """Updates are so small that they live in the float32 copies alone: these come back too."""
    options = {**TOO_SMALL, "micro_batch_size": 2, "save_steps": 2, "max_steps": 12, "dtype": "bfloat16"}
    undisturbed, _ = deepspeed_run(tmp_path / "undisturbed", n_ranks, **options)
    assert share_changed(undisturbed) > 0.5
    monkeypatch.setenv("TRIMS_FAULT", "train.after_step:kill:7")
    with pytest.raises(LaunchError, match="SIGKILL"):
        deepspeed_run(tmp_path / "killed", n_ranks, **options)
    monkeypatch.delenv("TRIMS_FAULT")
    resumed, notes = deepspeed_run(tmp_path / "killed", n_ranks, **options)
    assert "continuing at step 6" in notes
    assert curve(resumed) == curve(undisturbed)
    names = ("model.safetensors", "config.json")
    assert [(resumed.adapter / name).read_bytes() for name in names] == [
        (undisturbed.adapter / name).read_bytes() for name in names
    ]


def test_what_full_fine_tuning_cannot_do_is_refused_before_anything_starts(tmp_path):
    def wrong(message, student=(), **train):
        raw = training_cli.raw_config(tmp_path, lora=None, **train)
        raw["student"] |= dict(student)
        with pytest.raises(ConfigError, match=message):
            config = parse_config(raw)
            train_settings(config, node_named(build_graph(config), training_cli.NODE))

    wrong(
        r"train\.lora: null with student\.load_in_4bit true.*set student\.load_in_4bit",
        {"load_in_4bit": True},
    )
    wrong(r"init_adapter \S+ with lora null.*leave init_adapter out", init_adapter=str(tmp_path))
    (tmp_path / "zero3.json").write_text('{"zero_optimization": {"stage": 3}}')
    wrong(
        r"zero3\.json: ZeRO stage 3 with train\.lora null.*expected stage 2",
        deepspeed=str(tmp_path / "zero3.json"),
    )
