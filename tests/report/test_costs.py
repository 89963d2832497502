"""What training took, counted from the artifacts."""

from __future__ import annotations

from types import SimpleNamespace

from trims_core.report.costs import costs_of, costs_table
from trims_core.settings import parse_config


def artifact(counts=None, **info):
    return SimpleNamespace(info=info, manifest=SimpleNamespace(counts=counts or {}))


def config(variants):
    return parse_config(
        {
            "name": "costs",
            "corpus": {"path": "a.jsonl"},
            "scores": {"model": "teacher", "teacher": "transformers"},
            "rollouts": {"grader": "demo"},
            "student": {"model": "student"},
            "train": {"variants": variants, "batch_size": 32, "micro_batch_size": 8},
            "sweep": {"tasks": {"demo": {"benchmark": "demo", "path": "b.jsonl"}}},
        }
    )


def test_forwards_count_every_pass_and_data_are_told_apart():
    variants = {"t": {"method": "trims"}, "s": {"method": "standard"}, "l": {"method": "lift"}}
    variants["d"] = {"method": "dparallel"}
    steps = {"t": 300, "s": 300, "l": 150, "d": 150}
    parents = {f"train/{name}-s0": artifact(steps=n) for name, n in steps.items()}
    parents["buckets"] = artifact({"n_tokens": 123_456})
    parents["rollouts/untuned"] = artifact(forwards=80_000)
    rows = {row["variant"]: row for row in costs_of(config(variants), parents)}
    assert {row["forwards"] for row in rows.values()} == {9600}
    assert [rows[name]["passes"] for name in "tsld"] == [1, 1, 2, 2]
    assert [rows[name]["teacher_tokens"] for name in "tsld"] == [123_456, 0, 0, 0]
    assert [rows[name]["rollout_forwards"] for name in "tsld"] == [0, 0, 0, 80_000]
    text = costs_table({"costs": list(rows.values())}).markdown()
    assert "| t | 300 | 1 | 9,600 | 123,456 | 0 |" in text


def test_seeds_of_different_lengths_have_no_common_number():
    found = config({"t": {"method": "trims"}}).model_copy()
    two = found.model_copy(update={"train": found.train.model_copy(update={"seeds": (0, 1)})})
    parents = {"train/t-s0": artifact(steps=3), "train/t-s1": artifact(steps=4), "buckets": artifact()}
    (row,) = costs_of(two, parents)
    assert row["steps"] is None and row["forwards"] is None
    assert "| t | – | 1 | – |" in costs_table({"costs": [row]}).markdown()
