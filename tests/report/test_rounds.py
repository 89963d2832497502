"""The report's rows of rounds: which artifacts they are of, and means over seeds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trims_core.report.rounds import rounds_of, rounds_table, trained_once
from trims_core.settings import parse_config

ROLLOUTS = {
    "samples": 2,
    "sampling": {"temperature": 1.0},
    "gen_length": 4,
    "block_length": 4,
    "grader": "demo",
}
RAW: dict[str, Any] = {
    "name": "rounds",
    "corpus": {"path": "a.jsonl"},
    "student": {"model": "student"},
    "train": {
        "variants": {
            "standard": {"method": "standard"},
            "rl": {"method": "cj_grpo", "rounds": 2, "prompts": 4, "inner_steps": 3, "rollouts": ROLLOUTS},
        },
        "seeds": [0, 1],
        "batch_size": 16,
        "micro_batch_size": 4,
    },
    "sweep": {"tasks": {"demo": {"benchmark": "demo"}}},
}


def artifact(counts: dict[str, int], **info: Any) -> Any:
    return SimpleNamespace(manifest=SimpleNamespace(counts=counts), info=info)


def parents() -> dict[str, Any]:
    found: dict[str, Any] = {f"train/standard-s{seed}": artifact({}, steps=9) for seed in (0, 1)}
    for seed in (0, 1):
        for number, train in enumerate((f"rl-s{seed}-r0", f"rl-s{seed}")):
            name = f"rl-s{seed}-r{number}"
            counts = {"n_rollouts": 8, "n_groups": 4, "n_distinct": 6 + seed}
            found[f"rollouts/{name}"] = artifact(counts, tokens=24, forwards=32)
            graded = {"n_rollouts": 8, "n_right": 2 * number + seed}
            found[f"grades/{name}"] = artifact(graded, mean_reward=0.5 * number + 0.25 * seed)
            found[f"train/{train}"] = artifact({}, steps=3, measures={"kl": 0.1 * number, "entropy": 1.0})
    return found


def test_a_row_per_round_has_the_means_over_seeds_of_its_own_artifacts() -> None:
    rows = rounds_of(parse_config(RAW), parents())
    assert [(row["variant"], row["round"], row["seeds"]) for row in rows] == [("rl", 0, 2), ("rl", 1, 2)]
    assert [row["reward"] for row in rows] == pytest.approx([0.125, 0.625])
    assert [row["right"] for row in rows] == pytest.approx([0.5 / 8, 2.5 / 8])
    assert [row["kl"] for row in rows] == pytest.approx([0.0, 0.1])
    assert {row["tokens"] for row in rows} == {3.0} and {row["distinct"] for row in rows} == {1.625}
    assert rows[0]["clip_share"] is None
    shown = rounds_table({"rounds": rows})
    assert shown is not None and shown.rows[1][:3] == ("rl, round 1", "0.625", "0.312")
    assert rounds_table({"rounds": []}) is None


def test_losses_are_those_of_models_without_rounds() -> None:
    config, found = parse_config(RAW), parents()
    assert list(trained_once(config, found)) == ["train/standard-s0", "train/standard-s1"]
