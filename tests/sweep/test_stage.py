"""The sweep stage on a real tiny student: what is stored, what it depends on, what a rerun repeats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.decoding_checkpoint import write_student
from fakes.decoding_world import (
    CARD,
    CELLS,
    CHUNK,
    N_PROBLEMS,
    NODE,
    Decoded,
    config_of,
    copied,
    samples_of,
    sweep_artifact,
    timeless,
    trained,
    unit_bytes,
    write_sweep_world,
)

from trims_core import _faults
from trims_core.config import StudentConfig, TrimsConfig
from trims_core.errors import SweepError
from trims_core.graph import build_graph, node_named
from trims_core.schema import SAMPLES, provenance, read_table
from trims_core.stage import Result, node_key, run_node
from trims_core.store import Artifact, Store
from trims_core.students.merging import MERGE_RULE
from trims_core.sweep import stage
from trims_core.sweep.settings import sweep_settings
from trims_core.sweep.stage import SPEC
from trims_core.sweep_sections import SweepConfig

TUNED = "sweep/trims-s0"


def _run(config: TrimsConfig, node: str = NODE, parents: dict[str, Artifact] | None = None) -> Result:
    return run_node(Store(config.store), config, node_named(build_graph(config), node), parents or {})


def _fingerprint(config: TrimsConfig, node: str = NODE, parents: dict[str, Artifact] | None = None) -> str:
    wanted = node_named(build_graph(config), node)
    return node_key(Store(config.store), SPEC, config, wanted, parents or {}).fingerprint


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world whose untuned student was swept."""
    root = tmp_path_factory.mktemp("swept")
    write_sweep_world(root)
    assert _run(config_of(root)).how == "made"
    return root


@pytest.fixture
def world(swept: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return copied(swept, tmp_path)


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four problems in a unit, so that a cell has two."""
    monkeypatch.setattr(stage, "CHUNK", CHUNK)


def test_every_sample_of_every_cell_is_stored(swept: Path) -> None:
    artifact = sweep_untuned(swept)
    assert [unit.name for unit in artifact.units] == [f"{cell}/0000" for cell in CELLS]
    for path in artifact.files(suffix="/samples.parquet"):
        table = read_table(path, SAMPLES)
        assert table["sample_id"].to_pylist() == [f"p{i}" for i in range(N_PROBLEMS)]
        for tokens, steps, confidences in zip(
            *(table[name].to_pylist() for name in ("token_ids", "reveal_step", "confidence")), strict=True
        ):
            assert len(tokens) == len(steps) == len(confidences) == 16
            assert [step == -1 for step in steps] == [value is None for value in confidences]
        assert [[value is None for value in row] for row in table["entropy"].to_pylist()] == [
            [value is None for value in row] for row in table["confidence"].to_pylist()
        ]
        about = provenance(path)["provenance"]
        assert (about["batch_size"], about["gen_length"]) == (4, 16)
        assert str(swept) not in str(about), "a path in the bytes of a table"


def test_the_one_token_point_reveals_one_position_per_forward(swept: Path) -> None:
    columns = samples_of(sweep_untuned(swept), "demo-tone")
    assert set(columns["threshold"]) == {None}
    for steps, n_forwards in zip(columns["reveal_step"], columns["n_forwards"], strict=True):
        assert sorted(step for step in steps if step >= 0) == list(range(n_forwards))


def test_cells_json_says_what_the_samples_say(swept: Path) -> None:
    artifact = sweep_untuned(swept)
    rows = json.loads(artifact.file("cells.json").read_text())
    assert [(row["task"], row["threshold"]) for row in rows] == [
        ("demo", None),
        ("demo", 0.9),
        ("demo", 0.3),
    ]
    for row, cell in zip(rows, CELLS, strict=True):
        columns = samples_of(artifact, cell)
        assert row["n"] == N_PROBLEMS
        assert row["tokens"] == sum(columns["n_tokens"])
        assert row["forwards"] == sum(columns["n_forwards"])
        assert row["tpf"] == pytest.approx(row["tokens"] / row["forwards"])
        assert row["n_unfinished"] == columns["finished"].count(False)
        assert row["tokens_per_second"] == pytest.approx(row["tokens"] / row["seconds"])
        assert (row["batch_sizes"], row["stop_at_end"], row["units"]) == ([4], True, [f"{cell}/0000"])
    counts = artifact.manifest.counts
    assert (counts["n_cells"], counts["n_samples"], counts["n_problems"]) == (3, 3 * N_PROBLEMS, N_PROBLEMS)
    assert "| demo | none | threshold 0.3 |" in (artifact.path / "card.md").read_text()


def test_a_lower_threshold_takes_fewer_forwards(swept: Path) -> None:
    rows = json.loads(sweep_untuned(swept).file("cells.json").read_text())
    forwards = [row["forwards"] for row in rows]
    assert forwards[0] >= forwards[1] > forwards[2]


def test_a_second_run_is_cached(swept: Path) -> None:
    assert _run(config_of(swept)).how == "cached"


def test_one_more_threshold_decodes_its_cell_alone(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = Decoded(monkeypatch)
    before = unit_bytes(world)
    more = _run(config_of(world, "sweep.thresholds=[0.9, 0.5, 0.3]")).artifact
    assert decoded.taken() == [N_PROBLEMS]
    after = unit_bytes(world)
    assert {name: after[name] for name in before} == before
    assert [unit.name for unit in more.units] == [f"demo-{t}/0000" for t in ("tone", "t0.9", "t0.5", "t0.3")]
    assert {row["n"] for row in json.loads(more.file("cells.json").read_text())} == {N_PROBLEMS}
    fewer = _run(config_of(world, "sweep.thresholds=[0.5]"))
    assert (fewer.how, decoded.taken()) == ("made", [])


@pytest.mark.usefixtures("chunked")
def test_a_higher_limit_decodes_the_new_problems_alone(
    tmp_path: Path, swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sweep_world(tmp_path)
    decoded = Decoded(monkeypatch)
    _run(config_of(tmp_path, f"sweep.tasks.demo.limit={CHUNK}"))
    assert decoded.taken() == [CHUNK] * 3
    whole = _run(config_of(tmp_path)).artifact
    assert decoded.taken() == [N_PROBLEMS - CHUNK] * 3
    assert [unit.name for unit in whole.units] == [f"{cell}/000{i}" for cell in CELLS for i in (0, 1)]
    assert _samples(timeless(whole)) == _samples(timeless(sweep_untuned(swept)))


@pytest.mark.usefixtures("chunked")
def test_noise_is_drawn_as_if_a_cell_were_decoded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sweep_world(tmp_path, sampling={"temperature": 1.0}, thresholds=[0.9])
    parts = _samples(timeless(_run(config_of(tmp_path)).artifact))
    monkeypatch.setattr(stage, "CHUNK", N_PROBLEMS)
    whole = _samples(timeless(_run(config_of(tmp_path, "store=" + str(tmp_path / "other"))).artifact))
    assert [cell["token_ids"] for cell in parts.values()] == [cell["token_ids"] for cell in whole.values()]


def _samples(found: dict) -> dict:
    """What was decoded, without the summaries, which name chunks."""
    return {name: columns for name, columns in found.items() if name != "cells"}


def test_one_more_task_leaves_the_cells_of_the_others(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = Decoded(monkeypatch)
    lines = (world / "test.jsonl").read_text().splitlines()[:2]
    (world / "more.jsonl").write_text("\n".join(lines).replace("How many?", "How few?"))
    tasks = {"demo": str(world / "test.jsonl"), "more": str(world / "more.jsonl")}
    write_sweep_world(
        world, tasks={name: {"benchmark": "demo", "path": path} for name, path in tasks.items()}
    )
    artifact = _run(config_of(world)).artifact
    assert decoded.taken() == [2] * 3
    assert len(artifact.units) == 6


def test_another_gold_or_name_of_a_task_decodes_nothing(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = Decoded(monkeypatch)
    path = world / "test.jsonl"
    path.write_text(path.read_text().replace("The answer is 3.", "The answer is 33."))
    assert (_run(config_of(world)).how, decoded.taken()) == ("made", [])
    write_sweep_world(world, tasks={"words": {"benchmark": "demo", "path": str(path)}})
    renamed = _run(config_of(world))
    assert (renamed.how, decoded.taken()) == ("made", [])
    assert [unit.name for unit in renamed.artifact.units] == [
        f"{cell.replace('demo', 'words')}/0000" for cell in CELLS
    ]


def test_another_rule_keeps_the_point_with_one_token_per_forward(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = Decoded(monkeypatch)
    _run(config_of(world, "sweep.rule=entropy", "sweep.thresholds=[1.0]"))
    assert decoded.taken() == [N_PROBLEMS]


def test_a_renamed_variant_and_another_model_card_decode_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sweep_world(tmp_path)
    config = config_of(tmp_path)
    decoded = Decoded(monkeypatch)
    first = _run(config, TUNED, {"train": trained(config)}).artifact
    assert (decoded.taken(), first.manifest.seed) == ([N_PROBLEMS] * 3, 0)
    write_sweep_world(tmp_path, raw={"train": {"variants": {"ours": {}}}})
    renamed = config_of(tmp_path)
    again = _run(renamed, "sweep/ours-s0", {"train": trained(renamed, "ours")})
    assert (again.how, again.artifact.path, decoded.taken()) == ("cached", first.path, [])
    monkeypatch.setitem(CARD, "text", "twice")
    other = trained(renamed, "ours")
    again = _run(renamed, "sweep/ours-s0", {"train": other})
    assert (again.how, decoded.taken()) == ("made", [])
    assert other.fingerprint != first.manifest.parents["train"]["fingerprint"]


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
        "sweep.sampling.seed=3",
        "sweep.multi_block_add=0.5",
        "sweep.dream_steps=4",
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
    assert set(samples_of(artifact, "demo-t0.9-dual")["cache"]) == {"dual"}
    exact = timeless(artifact)
    for cell in CELLS:
        assert exact[cell] == timeless(sweep_untuned(swept))[cell]


def test_a_task_is_decoded_by_another_rule_with_options(tmp_path: Path) -> None:
    sampling = {"temperature": 0.5, "suppress": ["<|eot_id|>", "<|endoftext|>"]}
    write_sweep_world(tmp_path, rule="entropy", thresholds=[1.0, 9.0], sampling=sampling)
    artifact = _run(config_of(tmp_path)).artifact
    path = artifact.file("demo-t9/0000/samples.parquet")
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
    prints.append(_fingerprint(config, TUNED, {"train": trained(config)}))
    assert len(set(prints)) == 4


def test_a_tuned_student_is_decoded_with_its_adapter(swept: Path) -> None:
    from trims_core.students import load_student

    config = config_of(swept)
    adapted = trained(config)
    samples = samples_of(_run(config, TUNED, {"train": adapted}).artifact, "demo-tone")
    assert samples["token_ids"] != samples_of(sweep_untuned(swept), "demo-tone")["token_ids"]

    from trims_core.decoding import DecodeSettings, decode, one_per_forward
    from trims_core.rendering import Renderer

    adapter = adapted.file("adapter/adapter_config.json").parent
    unmerged = load_student(config.student.model, adapter=adapter)
    conversations = [[{"role": "user", "content": text}] for text in samples["prompt"]]
    prompts = Renderer(unmerged.tokenizer).prompts(conversations)
    expected = decode(unmerged, prompts, DecodeSettings(one_per_forward(16), 16, 8, batch_size=4))
    assert [item.token_ids for item in expected] == samples["token_ids"]


def test_a_student_that_was_trained_whole_is_decoded_in_place_of_the_configured_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sweep_world(tmp_path)
    config = config_of(tmp_path)
    adapted = _run(config, TUNED, {"train": trained(config)}).artifact
    monkeypatch.setitem(CARD, "kind", "checkpoint")
    config = config_of(tmp_path, "train.lora=null")
    checkpoint = trained(config)
    whole = _run(config, TUNED, {"train": checkpoint}).artifact
    for cell in CELLS:  # the same network: the adapter is merged into the checkpoint
        assert samples_of(whole, cell)["token_ids"] == samples_of(adapted, cell)["token_ids"]
    path = whole.file("demo-t0.9/0000/samples.parquet")
    assert set(provenance(path)["provenance"]["inputs"]) == {"checkpoint", "problems"}
    decoded = Decoded(monkeypatch)
    monkeypatch.setitem(CARD, "text", "twice")  # a card changes no sample, weights do
    assert _run(config, TUNED, {"train": trained(config)}).how == "cached"
    assert decoded.taken() == []
    write_student(tmp_path / "student", seed=1)
    monkeypatch.setitem(CARD, "text", "of other weights")
    assert _run(config, TUNED, {"train": trained(config)}).how == "made"
    assert decoded.taken() == [N_PROBLEMS] * 3


def test_a_whole_student_in_a_narrow_type_depends_on_no_rule_of_merging() -> None:
    sweep = SweepConfig.model_validate({"tasks": {"demo": {"benchmark": "demo", "path": "x"}}})
    student = StudentConfig(model="m", dtype="bfloat16")
    found = [sweep_settings(sweep, student, None, tuned=True, adapted=adapted) for adapted in (True, False)]
    assert [settings.merge_rule for settings in found] == [MERGE_RULE, None]


@pytest.mark.usefixtures("chunked")
def test_a_run_that_failed_between_chunks_continues_with_those_that_are_left(
    tmp_path: Path, swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sweep_world(tmp_path)
    config = config_of(tmp_path)
    _faults._hits.clear()
    monkeypatch.setenv("TRIMS_FAULT", "sweep.before_chunk:raise:4")
    with pytest.raises(_faults.InjectedFaultError):
        _run(config)
    kept = unit_bytes(tmp_path)
    assert len(kept) == 3
    monkeypatch.delenv("TRIMS_FAULT")
    told: list[int] = []
    run_node(
        Store(config.store),
        config,
        node_named(build_graph(config), NODE),
        {},
        progress=lambda done, _total, _note: told.append(done),
    )
    assert told[0] == N_PROBLEMS + CHUNK
    assert told[-1] == 3 * N_PROBLEMS
    after = unit_bytes(tmp_path)
    assert (len(after), {name: after[name] for name in kept}) == (6, kept)
    assert _samples(timeless(sweep_artifact(tmp_path))) == _samples(timeless(sweep_untuned(swept)))


def sweep_untuned(root: Path) -> Artifact:
    """The untuned sweep of a world that may hold tuned ones too."""
    return next(a for a in Store(root / "store").artifacts("sweep") if a.manifest.node == NODE)


def test_a_damaged_student_stops_the_sweep_with_the_cells_name(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write_sweep_world(tmp_path)
    path = tmp_path / "student/model.safetensors"
    weights = load_file(path)
    name = next(key for key in weights if key.endswith("ln_f.weight"))
    weights[name][:] = float("nan")
    save_file(weights, path)
    with pytest.raises(SweepError, match=r"cell demo at one token per forward: .*non-finite"):
        _run(config_of(tmp_path))
