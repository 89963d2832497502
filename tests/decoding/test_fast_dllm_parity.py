"""The published programs' answers, token for token and forward for forward: top-k and threshold, no cache."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trims_core.decoding import Decoded, DecodeSettings, Threshold, TopK, decode
from trims_core.students import Student, load_student


@pytest.fixture(scope="module")
def students(shared_data: Path) -> dict[str, Student]:
    return {name: load_student(str(shared_data / f"oracles/llada/tiny_{name}")) for name in ("mha", "gqa")}


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> list[dict[str, Any]]:
    listed = json.loads((shared_data / "oracles/llada/fast_dllm_cases.json").read_text())
    chosen = [case for case in listed if case["cache"] == "none" and case["mode"] in ("topk", "threshold")]
    assert len(chosen) == 64
    return chosen


def _settings(case: dict[str, Any], batch_size: int = 1) -> DecodeSettings:
    rule = TopK(case["steps"]) if case["mode"] == "topk" else Threshold(case["value"])
    return DecodeSettings(rule, case["gen_length"], case["block_length"], False, batch_size)


@pytest.fixture(scope="module")
def alone(students: dict[str, Student], cases: list[dict[str, Any]]) -> list[Decoded]:
    """Each case decoded by itself."""
    return [decode(students[case["model"]], [case["prompt"]], _settings(case))[0] for case in cases]


def test_one_prompt_gives_the_published_tokens_and_forwards(
    cases: list[dict[str, Any]], alone: list[Decoded]
) -> None:
    for case, found in zip(cases, alone, strict=True):
        assert case["prompt"] + found.token_ids == case["output"], case
        assert found.n_forwards == case["nfe"], case


def test_a_batch_of_unequal_prompts_gives_the_published_tokens_and_forwards(
    students: dict[str, Student], cases: list[dict[str, Any]]
) -> None:
    groups = defaultdict(list)
    for case in cases:
        groups[case["model"], case["mode"], case["steps"], case["value"], case["gen_length"]].append(case)
    assert any(len({len(case["prompt"]) for case in group}) > 1 for group in groups.values())
    for group in groups.values():
        prompts = [case["prompt"] for case in group]
        decoded = decode(students[group[0]["model"]], prompts, _settings(group[0], batch_size=3))
        for case, found in zip(group, decoded, strict=True):
            assert (case["prompt"] + found.token_ids, found.n_forwards) == (case["output"], case["nfe"])


def test_every_step_reveals_what_the_published_trace_says(
    cases: list[dict[str, Any]], alone: list[Decoded]
) -> None:
    traced = [(case, found) for case, found in zip(cases, alone, strict=True) if case.get("trace")]
    assert traced
    for case, found in traced:
        start = len(case["prompt"])
        for step, row in enumerate(case["trace"]):
            positions = [start + i for i, revealed in enumerate(found.reveal_step) if revealed == step]
            assert positions == sorted(row["pos"])
            best = max(found.confidence[place - start] or 0.0 for place in positions)
            assert best == pytest.approx(max(row["conf_sorted"]), abs=1e-5)


def test_the_forward_is_the_published_one(students: dict[str, Student], shared_data: Path) -> None:
    for name, student in students.items():
        known = np.load(shared_data / f"oracles/llada/tiny_{name}/forward.npz")
        with torch.inference_mode():
            found = student.forward(torch.from_numpy(known["input_ids"]))
        np.testing.assert_allclose(found.numpy(), known["logits"], atol=1e-4)
