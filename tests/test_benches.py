"""The benchmarks of the data stages run, and say what they promise to say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STAGES = ("corpus", "scores", "aligned", "buckets", "drift", "train")


def _quick(script: Path, folder: Path) -> dict[str, object]:
    options = ["--folder", str(folder)] if script.name == "scale.py" else []
    done = subprocess.run([sys.executable, str(script), "--quick", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    found: dict[str, object] = json.loads(line)
    assert found["bench"] == script.stem and found["broken"] == []
    return found


@pytest.mark.e2e
def test_a_quick_run_tells_memory_and_cpu_seconds_of_every_stage(project_root: Path, tmp_path: Path) -> None:
    found = _quick(project_root / "bench/scale.py", tmp_path)
    for stage in STAGES:
        about = found[stage]
        assert isinstance(about, dict)
        assert {"peak_mib", "memory_growth", "cpu_s_per_million_tokens"} <= set(about)
    assert {"ids", "wide"} <= set(found)
    assert "bytes_per_row" in str(found["ids"]) and "mapped_bytes_per_token" in str(found["train"])


@pytest.mark.e2e
def test_a_quick_run_of_the_alignment_compares_with_loops_and_the_bare_tokenizer(
    project_root: Path, tmp_path: Path
) -> None:
    found = _quick(project_root / "bench/alignment.py", tmp_path)
    ratios = ("overlaps", "bytewise", "two_pointers", "encode_batch", "encode_batch_cpu")
    assert all(float(str(found[f"ratio_{name}"])) > 0 for name in ratios)
