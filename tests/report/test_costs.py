"""What methods cost, counted from the artifacts, phase by phase."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trims_core.graph import build_graph
from trims_core.published_costs import published_costs
from trims_core.report.costs import costs_of, costs_table, published_costs_table
from trims_core.settings import parse_config

ROUNDS = {
    "samples": 2,
    "sampling": {"temperature": 1.0},
    "gen_length": 4,
    "block_length": 4,
    "grader": "demo",
}
SECONDS = {"corpus": 1, "scores": 50, "aligned": 4, "buckets": 2, "tokens": 3, "rollouts": 200, "grades": 5}
SECONDS |= {"train": 300, "sweep": 90}


def config(variants: dict[str, Any], **more: Any):
    return parse_config(
        {
            "name": "costs",
            "corpus": {"path": "a.jsonl"},
            "scores": {"model": "teacher", "teacher": "transformers"},
            "rollouts": {"grader": "demo"},
            "student": {"model": "student"},
            "train": {"variants": variants, "batch_size": 32, "micro_batch_size": 4, **more},
            "sweep": {"tasks": {"demo": {"benchmark": "demo", "path": "b.jsonl"}}},
        }
    )


def made(chosen, **info: Any) -> dict[str, Any]:
    """An artifact per node; steps of trainings by variant."""
    said = {
        "scores": ({"n_out": 2000}, {"n_tokens": 123_456}),
        "rollouts": ({"n_rollouts": 8}, {"forwards": 32}),
        "train": ({"n_examples": 1000, "n_validation": 50}, {"processes": 2}),
        "sweep": ({"n_samples": 600}, {"forwards": 7000}),
    }
    found = {}
    for node in build_graph(chosen):
        counts, told = said.get(node.stage, ({}, {}))
        told = dict(told, **({"steps": info[node.params["variant"]]} if node.stage == "train" else {}))
        manifest = SimpleNamespace(
            stage=node.stage,
            is_old=False,
            counts=counts,
            seconds=SECONDS.get(node.stage, 0),
            full_config=chosen.model_dump(mode="json"),
        )
        found[node.id] = SimpleNamespace(info=told, manifest=manifest)
    return found


def rows_of(chosen, parents) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in costs_of(chosen, parents)}


def test_forwards_count_every_pass_and_phases_are_told_apart() -> None:
    chosen = config({"t": {"method": "trims"}, "s": {"method": "standard"}, "d": {"method": "dparallel"}})
    rows = rows_of(chosen, made(chosen, t=300, s=300, d=150))
    assert {rows[name]["training"]["forwards"] for name in "tsd"} == {9600}
    assert [rows[name]["passes"] for name in ("untuned", *"tsd")] == [0, 1, 1, 2]
    assert rows["t"]["curation"] == {
        "seconds": 1 + 50 + 4 + 2,
        "device_seconds": 57,
        "teacher_tokens": 123_456,
        "forwards": 0,
        "examples": 2000,
    }
    assert rows["d"]["curation"]["teacher_tokens"] == 0
    assert (rows["d"]["curation"]["forwards"], rows["d"]["curation"]["examples"]) == (32, 8)
    assert rows["d"]["curation"]["seconds"] == 1 + 3 + 200 + 5
    assert rows["t"]["training"]["examples"] == 950
    assert rows["untuned"]["evaluation"]["forwards"] == 7000
    assert rows["untuned"]["curation"]["seconds"] == rows["untuned"]["training"]["seconds"] == 0


def test_device_seconds_count_the_processes_and_gpus_that_worked() -> None:
    chosen = config({"t": {"method": "trims"}})
    parents = made(chosen, t=300)
    assert rows_of(chosen, parents)["t"]["training"]["device_seconds"] == 600
    on_gpus = chosen.model_dump(mode="json")
    on_gpus["runner"], on_gpus["resources"]["sweep"] = "processes", {"gpus": 2, "processes": 3}
    on_gpus["scores"]["tensor_parallel_size"] = 4
    for artifact in parents.values():
        artifact.manifest.full_config = on_gpus
    rows = rows_of(chosen, parents)
    assert rows["untuned"]["evaluation"]["device_seconds"] == 90 * 6 + 5
    assert rows["t"]["curation"]["device_seconds"] == 1 + 50 * 4 + 4 + 2
    on_gpus["runner"] = "sequential"
    assert rows_of(chosen, parents)["untuned"]["evaluation"]["device_seconds"] == 90 * 2 + 5


def test_rounds_count_all_their_rollouts_grades_and_steps() -> None:
    rl = {"method": "cj_grpo", "rounds": 2, "prompts": 4, "inner_steps": 3, "rollouts": ROUNDS}
    chosen = config({"rl": rl}, seeds=[0, 1])
    row = rows_of(chosen, made(chosen, rl=3))["rl"]
    # 2 rounds of 3 steps of 4 × 2 rollouts, 4 forwards each, and as many of the reference
    assert (row["steps"], row["passes"], row["training"]["forwards"]) == (6, 8, 6 * 8 * 8)
    assert (row["curation"]["forwards"], row["curation"]["examples"]) == (64, 16)
    assert row["curation"]["seconds"] == 1 + 3 + 2 * (200 + 5)
    assert row["training"]["seconds"] == 600 and row["seeds"] == 2


def test_what_an_artifact_does_not_say_is_a_dash_and_not_a_number() -> None:
    chosen = config({"t": {"method": "trims"}}, seeds=[0, 1])
    parents = made(chosen, t=300)
    del parents["train/t-s1"].info["steps"]
    del parents["sweep/untuned"]
    rows = rows_of(chosen, parents)
    assert rows["t"]["training"]["forwards"] is None and rows["t"]["steps"] is None
    assert rows["t"]["training"]["seconds"] == 300
    assert rows["untuned"]["evaluation"]["seconds"] is None
    text = costs_table({"costs": list(rows.values())}).markdown()
    assert "| t, training | 300 | 600 | 0 | – | 950 |" in text
    assert "| untuned, evaluation | – | – | – | – | – |" in text
    assert "untuned, training" not in text


def test_the_published_costs_stand_beside_them() -> None:
    trims, others = published_costs()
    assert (trims.curation_gpu_hours, trims.examples) == (0.6, 1000)
    assert (others.curation_gpu_hours, others.examples, others.per_model) == (287, 93_000, True)
    text = published_costs_table().markdown()
    assert "| dParallel, d3LLM | decodings of the diffusion model | 287 per model | – | 93,000 |" in text
    assert "2604.00666" in text


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_numbers_are_those_of_one_seed(seeds) -> None:
    chosen = config({"t": {"method": "trims"}}, seeds=list(seeds))
    row = rows_of(chosen, made(chosen, t=300))["t"]
    assert (row["seeds"], row["steps"], row["training"]["seconds"]) == (len(seeds), 300, 300)
