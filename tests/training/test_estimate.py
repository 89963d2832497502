"""Estimates before training: parameters, activations and steps against what real modules and runs count."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from fakes import training_cli
from fakes.training_student import tiny_family, tiny_model, tiny_train

from trims_core.config import LoraSettings, StudentConfig, TrainConfig
from trims_core.settings import load_config, parse_config
from trims_core.students.shapes import family_of_shape, random_student
from trims_core.training import estimate as module
from trims_core.training.estimate import Machine, count_parameters, describe, estimate
from trims_core.training.head import CHUNK_BYTES
from trims_core.training.plan import count_steps, split_validation
from trims_core.training.trainable import add_lora, checkpoint_activations

A100 = Machine("A100", 312e12)


@pytest.mark.parametrize("shape", ["llada-8b", "dream-7b"])
@pytest.mark.parametrize("targets", [("all-linear",), ("attention",), ("q_proj", "up_proj")])
def test_parameters_and_adapters_of_the_published_shapes_are_those_of_the_modules(shape, targets):
    student = random_student(shape, device="meta", n_layers=2)
    lora = LoraSettings(r=8, targets=targets)
    counts = count_parameters(student.family, lora)
    assert counts.total == sum(p.numel() for p in student.model.parameters())
    adapted = add_lora(student.model, lora, student.family.lora_targets(targets), 0)
    assert counts.adapters == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert counts.head == student.model.get_output_embeddings().weight.numel()


@pytest.mark.parametrize("shape", ["llada-8b", "dream-7b"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("dropout", [0.0, 0.05])
def test_activations_are_within_a_quarter_of_what_autograd_keeps(shape, dtype, dropout):
    train = TrainConfig(
        batch_size=2, micro_batch_size=2, max_length=128, lora=LoraSettings(r=4, dropout=dropout)
    )
    family, kept = kept_bytes(shape, dtype, train)
    found = module._activation_bytes(family, train, StudentConfig(model="any", dtype=dtype))
    # masks of dropout take a byte on a GPU and the working type on a CPU
    assert 0.75 * kept <= found <= 1.15 * kept


@pytest.mark.parametrize("shape", ["llada-8b", "dream-7b"])
def test_activations_of_a_student_that_is_trained_whole_are_what_autograd_keeps(shape):
    train = TrainConfig(batch_size=2, micro_batch_size=2, max_length=128, lora=None)
    family, kept = kept_bytes(shape, "bfloat16", train)
    found = module._activation_bytes(family, train, StudentConfig(model="any", dtype="bfloat16"))
    assert 0.85 * kept <= found <= 1.05 * kept


def test_all_weights_take_gradients_and_twelve_bytes_of_optimizer_shared_as_zero_says(tmp_path):
    """The twelve bytes are what ranks write: tests/training/test_full.py."""
    n_weights = sum(weight.numel() for weight in tiny_model().parameters())
    gib = 2**30
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        for stage, processes, gradients, states in ((0, 2, 1, 1), (1, 2, 1, 2), (2, 2, 2, 2), (2, 8, 8, 8)):
            (tmp_path / "ds.json").write_text(f'{{"zero_optimization": {{"stage": {stage}}}}}')
            launch, path = {"processes": processes}, str(tmp_path / "ds.json")
            raw = training_cli.raw_config(tmp_path, lora=None, batch_size=16, launch=launch, deepspeed=path)
            raw["student"]["dtype"] = dtype
            found = estimate(tiny_family(), parse_config(raw), 100, A100)
            assert found.weights_gib * gib == pytest.approx(size * n_weights)
            assert found.trained_gib * gib == pytest.approx(n_weights * (size / gradients + 12 / states))


def test_all_weights_cost_one_more_product_each_and_the_description_says_what_is_trained(tmp_path):
    adapted, whole = (parse_config(training_cli.raw_config(tmp_path, lora=lora)) for lora in ({"r": 1}, None))
    seconds = [estimate(tiny_family(), config, 100, A100).step_seconds for config in (adapted, whole)]
    assert 1.2 < seconds[1] / seconds[0] < 1.6
    memory, time = describe(whole, 20)
    assert "gradients and optimizer of all weights" in memory and "per checkpoint" in time
    (tmp_path / "3.json").write_text('{"zero_optimization": {"stage": 3}}')
    raw = training_cli.raw_config(tmp_path, lora=None, deepspeed=str(tmp_path / "3.json"))
    (line,) = describe(parse_config(raw), 20)
    assert "ZeRO stage 3 with train.lora null" in line


def test_checkpointed_activations_are_the_layers_inputs_and_one_layer():
    train = TrainConfig(batch_size=2, micro_batch_size=2, max_length=128, gradient_checkpointing=True)
    family, kept = kept_bytes("llada-8b", "float32", train)
    student = StudentConfig(model="any")
    one_layer = module._activation_bytes(
        family_of_shape("llada-8b", n_layers=1, width=256, mlp_width=768),
        train.model_copy(update={"gradient_checkpointing": False}),
        student,
    )
    inputs = module._activation_bytes(family, train, student) - one_layer
    assert inputs == pytest.approx(kept, rel=0.3)


def kept_bytes(shape, dtype, train):
    """(family, bytes that a forward of a small student of this shape keeps for the backward pass)."""
    student = random_student(shape, n_layers=3, width=256, mlp_width=768, dtype=dtype)
    adapted = student.model.train()
    if train.lora is not None:
        adapted = add_lora(student.model, train.lora, student.family.lora_targets("all-linear"), 0).train()
    adapted.to(getattr(torch, dtype))
    if train.gradient_checkpointing:
        checkpoint_activations(adapted)
    weights = {p.untyped_storage().data_ptr() for p in adapted.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    ids_BL = torch.randint(0, 1000, (train.micro_batch_size, train.max_length))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        causal = adapted if train.lora is None else adapted.get_base_model()
        causal.base_model(input_ids=ids_BL, use_cache=False)
    return student.family, sum(storage.nbytes() for storage in kept.values())


def test_more_processes_share_what_each_zero_stage_shares(tmp_path):
    def found(processes, path):
        launch = {"processes": processes}
        raw = training_cli.raw_config(tmp_path, batch_size=16, launch=launch, deepspeed=path)
        return estimate(tiny_family(), parse_config(raw), 100, A100)

    (tmp_path / "3.json").write_text('{"zero_optimization": {"stage": 3}}')
    one, two, three = found(1, None), found(2, None), found(2, str(tmp_path / "3.json"))
    assert two.weights_gib == one.weights_gib == 2 * three.weights_gib
    assert three.trained_gib < two.trained_gib < one.trained_gib
    assert two.step_seconds == pytest.approx(one.step_seconds / 2)
    assert two.activations_gib == one.activations_gib


@pytest.mark.parametrize(
    ("n_examples", "fraction"), [(20, 0.2), (1, 0.2), (20, 0.0), (3, 0.01), (1000, 0.02)]
)
def test_steps_are_those_of_the_training(tmp_path, n_examples, fraction):
    raw = training_cli.raw_config(tmp_path, max_steps=None, epochs=3, validation_fraction=fraction)
    config = parse_config(raw)
    chosen, _ = split_validation([str(i) for i in range(n_examples)], fraction)
    found = estimate(tiny_family(), config, n_examples, A100)
    assert found.steps == count_steps(config.train, len(chosen))
    assert estimate(tiny_family(), config, None, A100).hours is None


def test_a_method_of_two_passes_takes_twice_as_long_a_step_and_half_the_steps_of_equal_forwards(tmp_path):
    found = {}
    for method in ("standard", "lift"):
        raw = training_cli.raw_config(tmp_path, max_forwards=10, variants={"a": {"method": method}})
        found[method] = estimate(tiny_family(), parse_config(raw), None, A100)
    assert found["lift"].step_seconds == 2 * found["standard"].step_seconds
    assert (found["standard"].steps, found["lift"].steps) == (10, 5)
    assert found["lift"].hours == found["standard"].hours


@pytest.mark.parametrize(
    ("name", "shape", "n_examples"),
    [
        ("llada-s1k", "llada-8b", 1000),
        ("dream-s1k", "dream-7b", 1000),
        ("llada-lift", "llada-8b", 1000),
        ("llada-tabom", "llada-8b", 7473),
        ("dream-tabom", "dream-7b", 7473),
        ("llada-dparallel", "llada-8b", 7473),
        ("llada-d3llm", "llada-8b", 7473),
        ("llada-tad", "llada-8b", 7473),
        ("llada-d2f", "llada-8b", 7473),
    ],
)
def test_the_recipes_for_eight_gpus_name_their_computed_memory_and_time(
    project_root, name, shape, n_examples
):
    path = project_root / "configs" / f"{name}.yaml"
    found = estimate(family_of_shape(shape), load_config(path, env={}), n_examples, A100)
    assert found.processes == 8 and found.total_gib < 80
    assert f"{found.total_gib:.0f} GiB" in path.read_text()
    assert found.hours is not None and f"{60 * found.hours:.0f} minutes" in path.read_text()


def test_a_student_that_cannot_be_read_is_said_not_guessed(tmp_path):
    raw = training_cli.raw_config(tmp_path)
    raw["student"]["model"] = str(tmp_path / "absent")
    (line,) = describe(parse_config(raw), 20)
    assert line.startswith("train: no estimate: ") and "absent" in line


def test_a_description_names_memory_time_and_what_is_assumed(tmp_path):
    memory, time = describe(parse_config(training_cli.raw_config(tmp_path, **tiny_train().model_dump())), 20)
    assert "GiB (weights" in memory and "1 process(es)" in memory
    assert "6 steps" in time and "at 40% of" in time


def test_the_heads_chunk_is_the_one_that_training_takes():
    assert module._HEAD_CHUNK_BYTES == CHUNK_BYTES


def test_estimating_imports_no_torch():
    code = "import sys, trims_core.training.estimate; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
