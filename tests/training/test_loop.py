"""The loop without DeepSpeed: gradients that do not depend on how the batch is split, exact metrics."""

from __future__ import annotations

import json
import math

import pytest
import torch
from fakes.training_runs import train_here
from fakes.training_student import curve, same_curves, tiny_spec, tiny_train
from safetensors.torch import load_file

from trims_core.config import LoraSettings
from trims_core.errors import InterruptedRunError, LaunchError
from trims_core.training.journal import MetricsLog, read_metrics, read_progress
from trims_core.variants import StandardVariant, TrimsVariant

NO_DROPOUT = LoraSettings(r=4, alpha=8, dropout=0.0)


@pytest.mark.parametrize("norm", ["token", "sequence"])
def test_one_batch_or_four_accumulated_give_the_same_losses_and_gradients(tmp_path, norm):
    # a window of its own groups micro-batches by their size, which is no split of the same batches
    common = {"lora": NO_DROPOUT, "loss_norm": norm, "length_window": 1}
    settings = [tiny_train(micro_batch_size=n, **common) for n in (8, 2)]
    whole, split = (
        train_here(tiny_spec(tmp_path / str(i), train=chosen)) for i, chosen in enumerate(settings)
    )
    assert len(curve(whole)) == 10
    assert same_curves(whole, split, 1e-4, split=True)


def test_metrics_tell_the_losses_of_content_and_ends_apart(tmp_path):
    spec = train_here(tiny_spec(tmp_path, train=tiny_train(max_steps=2)))
    rows = curve(spec)
    assert all(0 < row["end_loss_share"] < 1 and 0 <= row["dead_columns"] < 1 for row in rows if "lr" in row)
    evals = [row for row in rows if row["kind"] == "eval"]
    assert evals and all(row["end_loss"] > 0 for row in evals)
    # the ends' own loss does not enter the content's: an untrained student is about equally unsure of both
    assert evals[0]["loss"] == pytest.approx(math.log(64), rel=0.2)
    without = train_here(
        tiny_spec(tmp_path / "none", train=tiny_train(max_steps=2, pads="none", end_tokens=0))
    )
    assert all(row["end_loss_share"] == 0 for row in curve(without) if "lr" in row)
    assert all(row["end_loss"] is None for row in curve(without) if row["kind"] == "eval")


def test_the_validation_loss_is_the_same_before_training_whatever_the_ends_and_masks(tmp_path):
    settings = [
        ({"pads": "hidden"}, TrimsVariant()),
        ({"pads": "none"}, StandardVariant()),
        ({"pads": "last", "end_weight": 0.25, "hide_end_of_turn": True}, TrimsVariant(order="random")),
    ]
    found = []
    for i, (ends, variant) in enumerate(settings):
        chosen = tiny_train(max_steps=1, eval_steps=1, lora=NO_DROPOUT, **ends)
        rows = curve(train_here(tiny_spec(tmp_path / str(i), train=chosen, variant=variant)))
        found.append(next(row for row in rows if row["kind"] == "eval"))
    assert found[0] == found[1] == found[2]


def test_context_weights_train_too(tmp_path):
    plain, cart = (
        train_here(
            tiny_spec(tmp_path / kind, variant=TrimsVariant(loss_weight=kind), train=tiny_train(max_steps=2))
        )
        for kind in ("inverse_t", "cart")
    )
    assert [row["loss"] for row in curve(cart)] != [row["loss"] for row in curve(plain)]


def test_training_lowers_the_validation_loss_and_leaves_the_base_alone(tmp_path):
    spec = train_here(tiny_spec(tmp_path, train=tiny_train(max_steps=30, eval_steps=30, save_steps=30)))
    before, after = (row["loss"] for row in curve(spec) if row["kind"] == "eval")
    assert after < before - 0.05
    names = load_file(spec.adapter / "adapter_model.safetensors")
    assert names and all("lora_" in name for name in names)
    assert any(tensor.abs().max() > 0 for name, tensor in names.items() if "lora_B" in name)


def test_the_adapter_carries_official_names_and_changes_the_loaded_student(tmp_path):
    from trims_core.students import load_student

    spec = train_here(tiny_spec(tmp_path, train=tiny_train(max_steps=2)))
    names = load_file(spec.adapter / "adapter_model.safetensors")
    assert all("model.transformer.blocks." in name for name in names)
    ids_BL = torch.arange(10)[None]
    plain = load_student(spec.student.model).forward(ids_BL)
    tuned = load_student(spec.student.model, adapter=spec.adapter).forward(ids_BL)
    assert not torch.allclose(plain, tuned)


def test_gradient_checkpointing_changes_no_loss(tmp_path):
    settings = {flag: tiny_train(max_steps=2, gradient_checkpointing=flag) for flag in (False, True)}
    plain, saved = (
        train_here(tiny_spec(tmp_path / str(flag), train=chosen)) for flag, chosen in settings.items()
    )
    assert same_curves(plain, saved, 1e-5)


def test_bfloat16_follows_the_float32_curve_at_its_precision(tmp_path):
    runs = {}
    for dtype in ("float32", "bfloat16"):
        spec = tiny_spec(tmp_path / dtype, train=tiny_train(max_steps=4, lora=NO_DROPOUT))
        runs[dtype] = train_here(
            spec.model_copy(update={"student": spec.student.model_copy(update={"dtype": dtype})})
        )
    assert not same_curves(runs["float32"], runs["bfloat16"], 1e-7)
    losses = [[row["loss"] for row in curve(spec)] for spec in runs.values()]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_no_validation_share_means_no_validation(tmp_path):
    spec = train_here(tiny_spec(tmp_path, train=tiny_train(validation_fraction=0.0, max_steps=2)))
    assert {row["kind"] for row in curve(spec)} == {"train"}
    assert json.loads(spec.paths.result.read_text())["counts"]["n_validation"] == 0


def test_progress_ends_at_all_steps_and_metrics_are_finite_json(tmp_path):
    spec = train_here(tiny_spec(tmp_path, train=tiny_train(max_steps=2)))
    assert read_progress(spec.paths.progress) == (2, 2, "writing the adapter")
    for row in read_metrics(spec.paths.metrics):
        numbers = [value for name, value in row.items() if name not in ("kind", "parts", "mfu")]
        assert all(math.isfinite(value) for value in numbers + list(row.get("parts", {}).values()))


def test_asked_to_stop_before_the_first_step_it_saves_after_that_step(tmp_path):
    spec = tiny_spec(tmp_path)
    spec.paths.stop.touch()
    with pytest.raises(InterruptedRunError, match="step 1 of 6"):
        train_here(spec)
    assert not spec.paths.result.exists()


def test_a_missing_rank_is_an_error_not_a_smaller_run(tmp_path):
    spec = tiny_spec(tmp_path)
    with pytest.raises(LaunchError, match=r"1 process\(es\), expected 2"):
        train_here(spec.model_copy(update={"world_size": 2}))


def test_metrics_after_a_resume_drop_what_will_be_repeated_and_a_torn_last_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = MetricsLog(path, 0)
    for step in (1, 2, 3):
        first.append(step, "train", loss=float(step))
    first.close()
    with path.open("a") as file:
        file.write('{"step": 4, "kind"')
    again = MetricsLog(path, 2)
    again.append(3, "train", loss=30.0)
    again.close()
    rows = read_metrics(path)
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)


def test_metrics_of_a_run_from_the_start_replace_older_ones(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "kind": "train", "loss": 1.0, "seconds": 2.0}\n')
    MetricsLog(path, 0).close()
    assert read_metrics(path) == []
