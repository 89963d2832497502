"""Tasks with a profile: asked in its words, decoded by its settings, graded by its graders; checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.decoding_world import (
    N_PROBLEMS,
    NODE,
    Decoded,
    config_of,
    samples_of,
    sweep_artifact,
    write_sweep_world,
)

from trims_core.config import TrimsConfig
from trims_core.graph import build_graph, node_named
from trims_core.schema import provenance
from trims_core.stage import Result, run_node
from trims_core.store import Store

PROFILE = {
    "benchmark": "demo",
    "source": "here",
    "prompt": {"system": "Be brief.", "before": "Think. ", "question": "Q: {{question}}"},
    "gen_length": 16,
    "block_length": 8,
    "graders": ["last_answer_sentence", "number_flexible"],
    "samples": "all",
    "n_samples": N_PROBLEMS,
}


def run(config: TrimsConfig) -> Result:
    """The untuned student's sweep."""
    return run_node(Store(config.store), config, node_named(build_graph(config), NODE), {})


def world(root: Path, profile: dict[str, Any] | None = None, **sweep: Any) -> TrimsConfig:
    """Settings of a sweep whose one task has a profile of its own."""
    path = root / "own.yaml"
    path.write_text(yaml.safe_dump(PROFILE if profile is None else profile))
    write_sweep_world(root)
    raw = yaml.safe_load((root / "tiny.yaml").read_text())
    for name in ("gen_length", "block_length"):
        del raw["sweep"][name]
    raw["sweep"] |= {"tasks": {"demo": {"profile": str(path), "path": str(root / "test.jsonl")}}, **sweep}
    (root / "tiny.yaml").write_text(yaml.safe_dump(raw))
    return config_of(root)


def test_problems_are_asked_and_decoded_as_the_profile_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(world(tmp_path))
    first = samples_of(sweep_artifact(tmp_path), "demo-t0.9")
    assert first["prompt"][1] == "Think. Q: How many? Count."
    assert {len(ids) for ids in first["token_ids"]} == {16}
    decoded = Decoded(monkeypatch)
    judged = {**PROFILE, "graders": ["number_flexible"], "source": "there"}
    assert (run(world(tmp_path, judged)).how, decoded.taken()) == ("cached", [])
    other = {**PROFILE, "prompt": {**PROFILE["prompt"], "before": "Think! "}}
    assert (run(world(tmp_path, other)).how, decoded.taken()) == ("made", [N_PROBLEMS] * 3)
    longer = {**PROFILE, "gen_length": 24}
    run(world(tmp_path, longer))
    assert decoded.taken() == [N_PROBLEMS] * 3


def test_a_profile_without_words_of_its_own_decodes_what_its_benchmark_decodes(tmp_path: Path) -> None:
    plain = {**PROFILE, "prompt": {"question": "{{question}}"}}
    for name in "ab":
        (tmp_path / name).mkdir()
    run(world(tmp_path / "a", plain))
    write_sweep_world(tmp_path / "b")
    run(config_of(tmp_path / "b"))
    found = [samples_of(sweep_artifact(tmp_path / name), "demo-t0.3")["token_ids"] for name in "ab"]
    assert found[0] == found[1]


def test_the_check_decodes_the_first_problems_alone_and_tells_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = Decoded(monkeypatch)
    artifact = run(world(tmp_path, check_problems=4)).artifact
    assert decoded.taken() == [N_PROBLEMS, N_PROBLEMS, 4, N_PROBLEMS]
    rows = {row["threshold"]: row for row in json.loads(artifact.file("cells.json").read_text())}
    assert "check" not in rows[None] and "check" not in rows[0.3]
    check = rows[0.9]["check"]
    assert (check["n"], check["n_changed"]) == (4, 0)
    assert 0 < check["latency"]["p50_s"] <= check["latency"]["p95_s"]
    assert rows[0.9]["n"] == N_PROBLEMS
    about = provenance(artifact.file("demo-t0.9/check/samples.parquet"))["provenance"]
    assert (about["batch_size"], about["workers"]) == (1, 1)
    (machine,) = rows[0.9]["machines"]
    assert machine["dtype"] == "float32" and machine["device"].startswith("CPU")


def test_answers_that_batching_changes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trims_core.decoding import runner

    decode = runner.decode_parallel

    def otherwise(student: Any, prompts: Any, settings: Any, *more: Any) -> Any:
        found = decode(student, prompts, settings, *more)
        if settings.batch_size == 1:
            found[0].token_ids[0] += 1
        return found

    monkeypatch.setattr(runner, "decode_parallel", otherwise)
    artifact = run(world(tmp_path, check_problems=4)).artifact
    rows = {row["threshold"]: row for row in json.loads(artifact.file("cells.json").read_text())}
    assert (rows[0.9]["check"]["n"], rows[0.9]["check"]["n_changed"]) == (4, 1)


def test_cells_decoded_one_at_a_time_have_a_latency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trims_core.decoding import runner

    monkeypatch.setattr(runner, "default_workers", lambda _: 1)
    rows = json.loads(run(world(tmp_path, batch_size=1)).artifact.file("cells.json").read_text())
    assert all(0 < row["latency"]["p50_s"] <= row["latency"]["p95_s"] for row in rows)


def test_tokens_are_counted_as_others_count_them_too(tmp_path: Path) -> None:
    artifact = run(world(tmp_path)).artifact
    for row in json.loads(artifact.file("cells.json").read_text()):
        name = "demo-tone" if row["threshold"] is None else f"demo-t{row['threshold']}"
        columns = samples_of(artifact, name)
        counted = row["tpf_as"]
        assert counted["canvas"] == pytest.approx(16 * N_PROBLEMS / row["forwards"])
        assert counted["text"] == pytest.approx(sum(columns["n_tokens_text"]) / row["forwards"])
        assert counted["prompt"] > counted["text"]
        assert counted["text_after_ten"] is None  # six problems


def test_tasks_that_ask_the_same_behind_other_system_prompts_are_asked_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trims_core.decoding import runner

    lengths: list[int] = []
    decode = runner.decode_parallel

    def counted(student: Any, prompts: Any, *more: Any) -> Any:
        lengths.append(sum(map(len, prompts)))
        return decode(student, prompts, *more)

    monkeypatch.setattr(runner, "decode_parallel", counted)
    plain = {**PROFILE, "prompt": {"question": "{{question}}"}}
    world(tmp_path, plain, thresholds=[0.9])
    rows = str(tmp_path / "test.jsonl")
    same = {"benchmark": "demo", "path": rows, "gen_length": 16, "block_length": 8}
    raw = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    raw["sweep"]["tasks"]["own"] = same
    raw["corpus"]["system_prompt"] = "Be brief."
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw))
    run(config_of(tmp_path))
    of_profile, _, of_own, _ = lengths
    assert of_own > of_profile, "the run's system prompt belongs to the task without a profile alone"
