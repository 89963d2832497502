"""The sweep stage on a real tiny student: what is stored, what it depends on, what a rerun repeats."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes.decoding_checkpoint import write_student
from fakes.decoding_world import (
    CELLS,
    N_PROBLEMS,
    NODE,
    config_of,
    sweep_artifact,
    timeless,
    write_sweep_world,
)

from trims_core import _faults
from trims_core.config import TrimsConfig
from trims_core.curves import wilson_interval
from trims_core.errors import SweepError
from trims_core.fingerprint import Digests
from trims_core.graph import build_graph, node_named
from trims_core.schema import SAMPLES, provenance, read_table
from trims_core.stage import Outcome, Result, StageSpec, Work, run_node, stage_key
from trims_core.store import Artifact, Store
from trims_core.sweep.stage import SPEC

TUNED = "sweep/trims-s0"


def _run(config: TrimsConfig, node: str = NODE, parents: dict[str, Artifact] | None = None) -> Result:
    return run_node(Store(config.store), config, node_named(build_graph(config), node), parents or {})


def _fingerprint(config: TrimsConfig, node: str = NODE) -> str:
    return SPEC.key(config, node_named(build_graph(config), node), {}, Digests(None)).fingerprint


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world whose untuned student was swept."""
    root = tmp_path_factory.mktemp("swept")
    write_sweep_world(root)
    assert _run(config_of(root)).how == "made"
    return root


def test_every_sample_of_every_cell_is_stored(swept: Path) -> None:
    artifact = sweep_untuned(swept)
    assert sorted(path.stem for path in artifact.files(prefix="cells/")) == sorted(CELLS)
    for path in artifact.files(prefix="cells/"):
        table = read_table(path, SAMPLES)
        assert table["sample_id"].to_pylist() == [f"p{i}" for i in range(N_PROBLEMS)]
        assert set(table["model"].to_pylist()) == {"untuned"}
        assert table["variant"].null_count == table["seed"].null_count == N_PROBLEMS
        for tokens, steps, confidences in zip(
            *(table[name].to_pylist() for name in ("token_ids", "reveal_step", "confidence")), strict=True
        ):
            assert len(tokens) == len(steps) == len(confidences) == 16
            assert [step == -1 for step in steps] == [value is None for value in confidences]
        assert [[value is None for value in row] for row in table["entropy"].to_pylist()] == [
            [value is None for value in row] for row in table["confidence"].to_pylist()
        ]
        assert provenance(path)["provenance"]["batch_size"] == 4


def test_the_one_token_point_reveals_one_position_per_forward(swept: Path) -> None:
    table = read_table(sweep_untuned(swept).file("cells/demo-tone.parquet"), SAMPLES)
    assert set(table["threshold"].to_pylist()) == {None}
    for steps, n_forwards in zip(
        table["reveal_step"].to_pylist(), table["n_forwards"].to_pylist(), strict=True
    ):
        assert sorted(step for step in steps if step >= 0) == list(range(n_forwards))


def test_cells_json_says_what_the_samples_say(swept: Path) -> None:
    artifact = sweep_untuned(swept)
    rows = json.loads(artifact.file("cells.json").read_text())
    assert [(row["task"], row["threshold"]) for row in rows] == [
        ("demo", None),
        ("demo", 0.9),
        ("demo", 0.3),
    ]
    for row, unit in zip(rows, CELLS, strict=True):
        table = read_table(artifact.file(f"cells/{unit}.parquet"), SAMPLES).to_pydict()
        assert row["n"] == N_PROBLEMS
        assert row["n_correct"] == sum(table["correct"])
        assert row["tokens"] == sum(table["n_tokens"])
        assert row["forwards"] == sum(table["n_forwards"])
        assert row["tpf"] == pytest.approx(row["tokens"] / row["forwards"])
        assert row["n_unfinished"] == table["finished"].count(False)
        low, high = wilson_interval(row["n_correct"], row["n"])
        assert (row["wilson_low"], row["wilson_high"]) == pytest.approx((low, high))
        assert row["tokens_per_second"] == pytest.approx(row["tokens"] / row["seconds"])
    assert artifact.manifest.counts["n_samples"] == 3 * N_PROBLEMS


def test_a_lower_threshold_takes_fewer_forwards(swept: Path) -> None:
    rows = json.loads(sweep_untuned(swept).file("cells.json").read_text())
    forwards = [row["forwards"] for row in rows]
    assert forwards[0] >= forwards[1] > forwards[2]


def test_a_second_run_is_cached(swept: Path) -> None:
    assert _run(config_of(swept)).how == "cached"


@pytest.mark.parametrize(
    "override",
    [
        "sweep.batch_size=9",
        "sweep.untuned=true",
        "report.title=x",
        "train.lr=0.5",
        "student.device=auto",
        "name=b",
        "sweep.cache=none",
        "sweep.compare_caches=[none]",
        "sweep.sampling.temperature=0",
    ],
)
def test_what_changes_no_sample_keeps_the_artifact(swept: Path, override: str) -> None:
    assert _fingerprint(config_of(swept, override)) == _fingerprint(config_of(swept))


@pytest.mark.parametrize(
    "override",
    [
        "sweep.thresholds=[0.9]",
        "sweep.gen_length=24",
        "sweep.block_length=16",
        "sweep.stop_at_end=false",
        "sweep.cache=dual",
        "sweep.compare_caches=[dual]",
        "sweep.rule=entropy",
        "sweep.sampling.suppress=[3]",
        "sweep.stop_strings=[x]",
        "sweep.tasks.demo.limit=2",
        "student.dtype=bfloat16",
        "corpus.system_prompt=x",
    ],
)
def test_what_changes_samples_changes_the_artifact(swept: Path, override: str) -> None:
    assert _fingerprint(config_of(swept, override)) != _fingerprint(config_of(swept))


def test_further_caches_of_the_untuned_student_leave_tuned_ones_alone(swept: Path) -> None:
    further = config_of(swept, "sweep.compare_caches=[prefix, dual]")
    assert _fingerprint(further, TUNED) == _fingerprint(config_of(swept), TUNED)
    assert _fingerprint(further) != _fingerprint(config_of(swept))


def test_each_cache_has_cells_of_its_own(tmp_path: Path, swept: Path) -> None:
    write_sweep_world(tmp_path, cache="dual", compare_caches=["none"])
    artifact = _run(config_of(tmp_path)).artifact
    rows = json.loads(artifact.file("cells.json").read_text())
    assert [(row["cache"], row["threshold"]) for row in rows] == [
        (cache, threshold) for cache in ("dual", "none") for threshold in (None, 0.9, 0.3)
    ]
    assert {row["rule"] for row in rows} == {"threshold"}
    dual = read_table(artifact.file("cells/demo-t0.9-dual.parquet"), SAMPLES)
    assert set(dual["cache"].to_pylist()) == {"dual"}
    exact = timeless(artifact)
    for unit in CELLS:
        assert exact[unit] == timeless(sweep_untuned(swept))[unit]


def test_a_task_is_decoded_by_another_rule_with_options(tmp_path: Path) -> None:
    sampling = {"temperature": 0.5, "suppress": ["<|eot_id|>", "<|endoftext|>"]}
    write_sweep_world(tmp_path, rule="entropy", thresholds=[1.0, 9.0], sampling=sampling)
    artifact = _run(config_of(tmp_path)).artifact
    path = artifact.file("cells/demo-t9.parquet")
    table = read_table(path, SAMPLES)
    assert set(table["finished"].to_pylist()) == {False}
    assert set(table["n_forwards"].to_pylist()) == {2}
    assert provenance(path)["provenance"]["sampling"]["suppress"] == ["<|eot_id|>", "<|endoftext|>"]


def test_other_problems_or_another_student_change_the_artifact(tmp_path: Path) -> None:
    write_sweep_world(tmp_path)
    config = config_of(tmp_path)
    prints = [_fingerprint(config)]
    path = tmp_path / "test.jsonl"
    path.write_text(path.read_text().replace("How many?", "How much?"))
    prints.append(_fingerprint(config))
    write_student(tmp_path / "student", seed=1)
    prints.append(_fingerprint(config))
    assert len({*prints, _fingerprint(config, TUNED)}) == 4


def _adapter(work: Work) -> Outcome:
    """A train stage that gives a random adapter."""
    from peft import LoraConfig, get_peft_model

    from trims_core.students import load_student, save_adapter_official

    student = load_student(work.config.student.model)
    targets = student.family.lora_targets("all-linear")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tuned = get_peft_model(student.model, LoraConfig(r=2, lora_alpha=8, target_modules=targets))
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.5)
    folder = work.staging.path / "adapter"
    save_adapter_official(tuned, folder)
    work.staging.record("adapter", {f"adapter/{path.name}": None for path in sorted(folder.iterdir())})
    return Outcome(counts={})


TRAIN = StageSpec("train", 1, lambda *_: stage_key("train", 1, {}, {}), _adapter)


def test_a_tuned_student_is_decoded_with_its_adapter(swept: Path) -> None:
    from trims_core.students import load_student

    config = config_of(swept)
    store = Store(config.store)
    node = replace(node_named(build_graph(config), "train/trims-s0"), parents={})
    trained = run_node(store, config, node, {}, specs={"train": TRAIN}).artifact
    tuned = _run(config, TUNED, {"train": trained}).artifact
    samples = read_table(tuned.file("cells/demo-tone.parquet"), SAMPLES)
    assert set(samples["model"].to_pylist()) == {"trims-s0"}
    assert set(samples["variant"].to_pylist()) == {"trims"}
    untuned = next(a for a in store.artifacts("sweep") if a.manifest.node == NODE)
    assert timeless(tuned)["demo-tone"]["token_ids"] != timeless(untuned)["demo-tone"]["token_ids"]

    from trims_core.decoding import DecodeSettings, decode, one_per_forward
    from trims_core.rendering import Renderer

    adapter = trained.file("adapter/adapter_config.json").parent
    unmerged = load_student(config.student.model, adapter=adapter)
    conversations = [[{"role": "user", "content": text}] for text in samples["prompt"].to_pylist()]
    prompts = Renderer(unmerged.tokenizer).prompts(conversations)
    expected = decode(unmerged, prompts, DecodeSettings(one_per_forward(16), 16, 8, batch_size=4))
    assert [item.token_ids for item in expected] == samples["token_ids"].to_pylist()


def test_a_run_that_failed_between_cells_continues_with_the_cells_that_are_left(
    tmp_path: Path, swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sweep_world(tmp_path)
    config = config_of(tmp_path)
    _faults._hits.clear()
    monkeypatch.setenv("TRIMS_FAULT", "sweep.before_cell:raise:3")
    with pytest.raises(_faults.InjectedFaultError):
        _run(config)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "store").rglob("*.parquet")}
    assert set(kept) == {"demo-tone.parquet", "demo-t0.9.parquet"}
    monkeypatch.delenv("TRIMS_FAULT")
    told: list[int] = []
    run_node(
        Store(config.store),
        config,
        node_named(build_graph(config), NODE),
        {},
        progress=lambda done, _total, _note: told.append(done),
    )
    assert told[0] == 2 * N_PROBLEMS
    assert told[-1] == 3 * N_PROBLEMS
    artifact = sweep_artifact(tmp_path)
    assert {name: artifact.file(f"cells/{name}").read_bytes() for name in kept} == kept
    assert timeless(artifact) == timeless(sweep_untuned(swept))


def sweep_untuned(root: Path) -> Artifact:
    """The untuned sweep of a world that may hold tuned ones too."""
    return next(a for a in Store(root / "store").artifacts("sweep") if a.manifest.node == NODE)


def test_a_damaged_student_stops_the_sweep_with_the_cells_name(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write_sweep_world(tmp_path)
    path = tmp_path / "student/model.safetensors"
    weights = load_file(path)
    name = next(key for key in weights if key.endswith("ln_f.weight"))
    weights[name][:] = torch.nan
    save_file(weights, path)
    with pytest.raises(SweepError, match=r"cell demo at one token per forward: .*non-finite"):
        _run(config_of(tmp_path))
