"""The benchmarks of the data stages run, and say what they promise to say."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.benches import quick

STAGES = ("corpus", "scores", "aligned", "buckets", "drift", "train")


@pytest.mark.e2e
def test_a_quick_run_tells_memory_and_cpu_seconds_of_every_stage(tmp_path: Path) -> None:
    found = quick("scale", "--folder", str(tmp_path))
    assert found["broken"] == []
    for stage in STAGES:
        about = found[stage]
        assert isinstance(about, dict)
        assert {"peak_mib", "memory_growth", "cpu_s_per_million_tokens"} <= set(about)
    assert {"ids", "wide"} <= set(found)
    assert "bytes_per_row" in str(found["ids"]) and "mapped_bytes_per_token" in str(found["train"])


@pytest.mark.e2e
def test_a_quick_run_of_the_alignment_compares_with_loops_and_the_bare_tokenizer() -> None:
    found = quick("alignment")
    assert found["broken"] == []
    ratios = ("overlaps", "bytewise", "two_pointers", "encode_batch", "encode_batch_cpu")
    assert all(float(str(found[f"ratio_{name}"])) > 0 for name in ratios)


@pytest.mark.e2e
def test_a_quick_run_of_the_graders_judges_every_task(shared_data: Path) -> None:
    found = quick("grading", "--data", str(shared_data))
    tasks = {name.partition("/")[0] for name in found["graders"]}
    assert (found["n_answers"], tasks) == (20, {"gsm8k", "math500", "countdown", "sudoku"})
    assert {"right", "wrong"} & set(found["graders"]["math500/math_verify"])
