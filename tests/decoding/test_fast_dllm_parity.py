"""The published programs' answers on LLaDA and Dream, token for token and forward for forward."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trims_core.decoding import (
    CACHES,
    Ass,
    Decoded,
    DecodeSettings,
    DreamSteps,
    DreamThreshold,
    EntropyThreshold,
    Eoser,
    Factor,
    MultiBlock,
    RevealRule,
    Threshold,
    TopK,
    decode,
)
from trims_core.students import Student, load_student

Case = dict[str, Any]
CHECKPOINTS = {"mha": "llada/tiny_mha", "gqa": "llada/tiny_gqa", "dream": "dream/tiny_dream"}


class _Counting(Student):
    """Remembers how many columns each forward was fed."""

    fed: list[int]

    def hidden(self, ids_BQ: Any, *context: Any) -> Any:
        self.fed.append(ids_BQ.shape[1])
        return super().hidden(ids_BQ, *context)


@pytest.fixture(scope="module")
def students(shared_data: Path) -> dict[str, _Counting]:
    found = {}
    for name, folder in CHECKPOINTS.items():
        loaded = load_student(str(shared_data / "oracles" / folder))
        found[name] = _Counting(loaded.model, loaded.family)
        found[name].fed = []
    return found


def _cases(shared_data: Path, name: str) -> list[Case]:
    listed: list[Case] = json.loads((shared_data / "oracles" / name).read_text())
    return listed


def _decode(student: _Counting, case: Case, settings: DecodeSettings) -> tuple[Decoded, list[int]]:
    if "eos_id" in case:
        student = replace(student, family=replace(student.family, eos_id=case["eos_id"]))
        student.fed = []
    student.fed.clear()
    (found,) = decode(student, [case["prompt"]], settings)
    return found, list(student.fed)


def _fast_dllm(case: Case) -> DecodeSettings:
    rules: dict[str, RevealRule] = {
        "topk": TopK(case["steps"]),
        "threshold": Threshold(case["value"] or 1.0),
        "factor": Factor(case["value"] or 1.0, compat=True),
    }
    return DecodeSettings(
        rules[case["mode"]], case["gen_length"], case["block_length"], False, 1, CACHES[case["cache"]]
    )


def test_fast_dllm_on_llada(students: dict[str, _Counting], shared_data: Path) -> None:
    cases = _cases(shared_data, "llada/fast_dllm_cases.json")
    assert len(cases) == 240
    for case in cases:
        found, fed = _decode(students[case["model"]], case, _fast_dllm(case))
        assert case["prompt"] + found.token_ids == case["output"], case
        if case["upstream"] == "later":
            assert (found.n_forwards, fed) == (case["nfe"], case["query_lens"]), case
        else:
            assert found.n_forwards <= case["nfe"], case


def test_every_step_reveals_what_the_published_trace_says(
    students: dict[str, _Counting], shared_data: Path
) -> None:
    traced = [case for case in _cases(shared_data, "llada/fast_dllm_cases.json") if case.get("trace")]
    assert {case["cache"] for case in traced} >= {"none"}
    for case in traced:
        if case["cache"] != "none":
            continue
        found, _ = _decode(students[case["model"]], case, _fast_dllm(case))
        start = len(case["prompt"])
        for step, row in enumerate(case["trace"]):
            positions = [start + i for i, revealed in enumerate(found.reveal_step) if revealed == step]
            assert positions == sorted(row["pos"])
            best = max(found.confidence[place - start] or 0.0 for place in positions)
            assert best == pytest.approx(max(row["conf_sorted"]), abs=1e-5)


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_a_batch_of_unequal_prompts_gives_the_published_tokens_and_forwards(
    students: dict[str, _Counting], shared_data: Path, cache: str
) -> None:
    groups = defaultdict(list)
    for case in _cases(shared_data, "llada/fast_dllm_cases.json"):
        if case["upstream"] == "later" and case["cache"] == cache:
            groups[case["model"], case["mode"], case["steps"], case["value"], case["gen_length"]].append(case)
    assert any(len({len(case["prompt"]) for case in group}) > 1 for group in groups.values())
    for group in groups.values():
        settings = _fast_dllm(group[0])
        together = DecodeSettings(
            settings.rule, settings.gen_length, settings.block_length, False, 3, settings.cache
        )
        prompts = [case["prompt"] for case in group] * 2
        decoded = decode(students[group[0]["model"]], prompts, together)
        for case, found in zip(group * 2, decoded, strict=True):
            assert (case["prompt"] + found.token_ids, found.n_forwards) == (case["output"], case["nfe"])


def test_eoser_and_ascending_steps(students: dict[str, _Counting], shared_data: Path) -> None:
    cases = _cases(shared_data, "llada/eoser_ass_cases.json")
    assert {case["algo"] for case in cases} == {
        "generate",
        "eoser_generate",
        "ass_generate",
        "eoser_ass_generate",
    }
    for case in cases:
        rules: dict[str, RevealRule] = {
            "generate": TopK(case["steps"]),
            "eoser_generate": Eoser(TopK(case["steps"])),
            "ass_generate": Ass(case.get("block_num", 1)),
            "eoser_ass_generate": Eoser(Ass(case.get("block_num", 1)), gamma_min=0.01),
        }
        block_length = case.get("block_length") or case["gen_length"]
        settings = DecodeSettings(rules[case["algo"]], case["gen_length"], block_length, False)
        found, _ = _decode(students[case["model"]], case, settings)
        assert case["prompt"] + found.token_ids == case["output"], case
        assert found.n_forwards == case["forwards"], case


def test_multi_block_and_entropy(students: dict[str, _Counting], shared_data: Path) -> None:
    cases = _cases(shared_data, "llada/multi_block_and_entropy_cases.json")
    assert {case["algo"] for case in cases} == {"d3llm_multi_block", "dparallel_entropy"}
    for case in cases:
        rule: RevealRule = EntropyThreshold(case["threshold"])
        if case["algo"] == "d3llm_multi_block":
            rule = MultiBlock(case["threshold"], case["block_add"])
        settings = DecodeSettings(rule, case["gen"], case["block"], False)
        found, _ = _decode(students[case["model"]], case, settings)
        assert case["prompt"] + found.token_ids == case["output"], case
        assert found.n_forwards == case["nfe"], case


def test_dreams_published_loops(students: dict[str, _Counting], shared_data: Path) -> None:
    cases = _cases(shared_data, "dream/fast_dllm_cases.json")
    assert len(cases) == 52
    for case in cases:
        rules: dict[str, RevealRule] = {
            "confidence_threshold": DreamThreshold(case["threshold"] or 1.0, case["steps"]),
            "entropy": DreamSteps(case["steps"]),
            "maskgit_plus": DreamSteps(case["steps"], "confidence"),
        }
        block_length = case["block_length"] or case["gen_length"]
        settings = DecodeSettings(
            rules[case["alg"]], case["gen_length"], block_length, False, 1, CACHES[case["cache"]]
        )
        found, fed = _decode(students["dream"], case, settings)
        assert case["prompt"] + found.token_ids == case["output"], case
        assert fed == [n_fed for n_fed, _ in case["calls"]], case
