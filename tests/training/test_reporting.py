"""metrics.jsonl: parts that add up, what is measured, and the share of the hardware's peak."""

from __future__ import annotations

import json

import pytest
import torch
from fakes import training_cli
from fakes.training_runs import train_here
from fakes.training_student import tiny_model, tiny_spec, tiny_train

from trims_core.graph import build_graph, node_named
from trims_core.stage import open_parents, run_node
from trims_core.training import launch
from trims_core.training.flops import Speed, flops_per_token
from trims_core.training.journal import MEASURED, read_metrics
from trims_core.training.reporting import Reporter
from trims_core.training.saving import count_linear, count_trainable
from trims_core.training.sequences import Totals
from trims_core.training.trainable import add_lora
from trims_core.variants import TrimsVariant

COLUMNS = {
    "step",
    "kind",
    "loss",
    "lr",
    "grad_norm",
    "masked_fraction",
    "end_loss_share",
    "dead_columns",
    "parts",
    *MEASURED,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The metrics of a run with three parts of the loss."""
    certain = TrimsVariant(certainty=0.5, certainty_ramp=0.0)
    spec = tiny_spec(tmp_path_factory.mktemp("run"), train=tiny_train(max_steps=3), variant=certain)
    return read_metrics(train_here(spec).paths.metrics)


def test_a_step_has_all_columns_and_its_parts_add_up_to_its_loss(rows):
    steps = [row for row in rows if row["kind"] == "train"]
    assert len(steps) == 3
    for row in steps:
        assert row.keys() == COLUMNS
        assert row["parts"].keys() == {"content", "ends", "certainty"}
        assert sum(row["parts"].values()) == pytest.approx(row["loss"], rel=1e-5)
        assert row["end_loss_share"] == pytest.approx(row["parts"]["ends"] / row["loss"])
        assert 0 < row["masked_fraction"] < 1 and 0 <= row["dead_columns"] < 1


def test_speed_and_memory_are_measured_and_mfu_is_for_gpus(rows):
    for row in rows:
        if row["kind"] == "train":
            assert row["tokens_per_second"] > 0 and row["peak_memory_mib"] > 100
            assert row["mfu"] is None
        assert row["seconds"] >= 0


@pytest.fixture
def gpu(monkeypatch):
    """A function that gives a device whose name is the one wanted."""

    def named(name):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
        return torch.device("cuda", 0)

    return named


def test_mfu_is_flops_of_all_ranks_over_the_peak_of_their_devices(gpu):
    # 8 B weights: 2 forwards, 2 backwards to inputs; 40 M of adapters: 6
    flops = flops_per_token(8_000_000_000, 40_000_000, 1, 1)
    assert flops == 4 * 8e9 + 6 * 4e7 == 32.24e9
    # 8 × 989e12 FLOP/s; 100,000 tokens/s of 32.24e9
    speed = Speed(flops, 8, "bfloat16")
    assert speed.mfu(100_000, gpu("NVIDIA H100 80GB HBM3")) == pytest.approx(3.224e15 / 7.912e15, abs=5e-5)
    assert speed.mfu(100_000, gpu("NVIDIA A100-SXM4-80GB")) == pytest.approx(3.224e15 / 2.496e15, abs=5e-5)
    assert speed.mfu(100_000, gpu("NVIDIA GeForce RTX 4090")) is None
    assert speed.mfu(100_000, torch.device("cpu")) is None
    exact = Speed(flops, 8, "float32")
    assert exact.mfu(1000, gpu("NVIDIA H100 80GB HBM3")) == pytest.approx(3.224e13 / (8 * 67e12), abs=5e-5)


def test_all_weights_cost_their_own_gradients_and_passes_without_learning_cost_forwards_alone():
    assert flops_per_token(100, None, 1, 1) == 600
    assert flops_per_token(100, None, 2, 2) == 1200
    assert flops_per_token(100, None, 2, 1) == 800
    assert flops_per_token(100, 10, 2, 1) == 4 * 100 + 2 * 100 + 4 * 10 + 4 * 10


def test_weights_of_matrix_products_are_counted_without_the_embedding_and_adapters():
    model = tiny_model()
    n_linear = count_linear(model)
    assert n_linear == sum(
        p.numel() for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n
    )
    lora = tiny_train().lora
    adapted = add_lora(model, lora, model.student_family.lora_targets("all-linear"), 0)
    assert count_linear(adapted) == n_linear
    assert count_trainable(adapted) == sum(p.numel() for n, p in adapted.named_parameters() if "lora_" in n)


def test_tokens_are_those_that_are_attended(monkeypatch):
    told = []
    reporter = Reporter(1, torch.device("cpu"), None, None, Told(told), Speed(1.0, 1, "float32"))
    clock = iter([10.0, 10.0])
    reporter._last = 8.0
    monkeypatch.setattr("trims_core.training.reporting.time.monotonic", lambda: next(clock))
    counts = {"n_columns": 100.0, "n_dead": 20.0, "n_content": 50.0, "n_masked_content": 10.0}
    reporter.step(1, 2.0, {"content": 1.5, "ends": 0.5}, {"kl": 0.25}, 0.1, 1.0, Totals(counts, 8, 4))
    ((step, kind, values),) = told
    assert (step, kind) == (1, "train")
    assert values["tokens_per_second"] == 40.0 and values["measures"] == {"kl": 0.25}
    assert (values["masked_fraction"], values["dead_columns"], values["end_loss_share"]) == (0.2, 0.2, 0.25)


class Told:
    """A tracker that keeps what it is told."""

    def __init__(self, told):
        self._told = told

    def log(self, step, kind, values):
        """Keeps it."""
        self._told.append((step, kind, values))


def test_what_is_measured_lies_in_times_jsonl_and_the_metrics_have_none_of_it(tmp_path, monkeypatch):
    def in_process(spec, _launch, _progress):
        plain = spec.model_copy(update={"engine": "plain"})
        plain.write()
        train_here(plain)

    monkeypatch.setattr(launch, "run_training", in_process)
    _, config, store = training_cli.prepare(tmp_path, max_steps=2, lora=None)
    node = node_named(build_graph(config), training_cli.NODE)
    artifact = run_node(store, config, node, open_parents(store, config, node, training_cli.SPECS)).artifact
    metrics, times = (
        [json.loads(line) for line in artifact.file(f"checkpoint/{name}").read_text().splitlines()]
        for name in ("metrics.jsonl", "times.jsonl")
    )
    assert all(not row.keys() & set(MEASURED) for row in metrics)
    assert [(row["step"], row["kind"]) for row in times] == [(row["step"], row["kind"]) for row in metrics]
    for row in times:
        expected = set(MEASURED) if row["kind"] == "train" else {"seconds"}
        assert row.keys() - {"step", "kind"} == expected
    # all weights trained: the artifact is a checkpoint that a student is loaded from, with its card
    card = artifact.file("checkpoint/README.md").read_text()
    assert "# All weights trained by TRIMS" in card and "library_name: transformers" in card
    assert "| trained | all weights, embeddings and head included |" in card
    assert 'load_student("path/to/this/folder", dtype="auto")' in card and "PeftModel" not in card
    assert "lora" not in card.lower()
    entries = artifact.manifest.entries
    assert {name for name, entry in entries.items() if not entry.aside} == {
        "checkpoint/config.json",
        "checkpoint/model.safetensors",
    }
    assert artifact.info["kept_step"] == 2
