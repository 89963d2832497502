"""TAD from the corpus to the adapter: prompts that show the right answer reach the teacher alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.chain_world import made_up_to, table
from fakes.dream_checkpoint import write_dream
from fakes.rollout_world import RolloutWorld
from fakes.training_runs import train_here
from fakes.training_student import adapter_bytes, curve

from trims_core.config import TrimsConfig
from trims_core.errors import ConfigError, InputError, InterruptedRunError
from trims_core.settings import parse_config
from trims_core.stage import Result
from trims_core.training import launch
from trims_core.training.data import run_data
from trims_core.training.examples import load_examples
from trims_core.training.method import Context
from trims_core.training.sources import source_of
from trims_core.training.spec import TrainSpec
from trims_core.training.world import World

TRAIN = {
    "max_steps": 3,
    "batch_size": 4,
    "micro_batch_size": 2,
    "save_steps": 1,
    "eval_steps": 2,
    "lr": 1e-2,
    "max_length": 200,
    "lora": {"r": 4, "alpha": 8, "dropout": 0.1},
    "validation_fraction": 0.1,
}
TAD = {"method": "tad", "answers": "all", "window": 2}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[TrainSpec]:
    """Trains in this process and without DeepSpeed; the specs of all trainings."""
    found: list[TrainSpec] = []

    def in_process(spec: TrainSpec, _launch: Any, _progress: Any) -> None:
        found.append(spec.model_copy(update={"engine": "plain"}))
        found[-1].write()
        train_here(found[-1])

    monkeypatch.setattr(launch, "run_training", in_process)
    return found


def world_of(root: Path, family: str) -> RolloutWorld:
    world = RolloutWorld(root)
    if family == "dream":
        write_dream(root / "student", with_tokenizer=True)
        path = root / "student" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "max_position_embeddings": 512}))
    return world


def config_of(world: RolloutWorld, variants: dict[str, Any] | None = None, **train: Any) -> TrimsConfig:
    raw = world.raw(gen_length=8, block_length=8)
    return parse_config({**raw, "train": {**TRAIN, "variants": variants or {"a": TAD}, **train}})


def run(world: RolloutWorld, last: str = "train/a-s0", **changes: Any) -> dict[str, Result]:
    return made_up_to(config_of(world, **changes), last)


def prompts_of(done: dict[str, Result], node: str) -> dict[str, list[int]]:
    rows = table(done[node].artifact, "tokens").to_pylist()
    return {row["id"]: row["input_ids"][: row["prompt_length"]] for row in rows}


def first_step(spec: TrainSpec) -> Any:
    """The first micro-batch of a run, nothing hidden yet."""
    import torch

    examples = load_examples(source_of(spec), "descending", 0, spec.train.max_length, spec.folder)
    context = Context(spec.train, spec.ends, 1, 0, "llada")
    return run_data(spec, examples, context, 1, World(0, 1, torch.device("cpu"))).train(0)[0]


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_it_is_trained_from_the_corpus_and_the_students_own_answers(
    tmp_path: Path, started: list[TrainSpec], family: str
) -> None:
    done = run(world_of(tmp_path, family))
    artifact = done["train/a-s0"].artifact
    assert artifact.file("adapter/adapter_model.safetensors").is_file()
    (spec,) = started
    lines = artifact.file("adapter/metrics.jsonl").read_text().splitlines()
    trained = [row for row in map(json.loads, lines) if row["kind"] == "train"]
    assert len(trained) == 3 and all(row["parts"]["kl"] >= 0 for row in trained)
    assert trained[-1]["parts"]["kl"] > 0
    counts = artifact.manifest.counts
    assert (counts["n_rollouts"], counts["n_out"]) == (14, 14)
    assert counts["n_without_reference"] == counts["n_reference_too_long"] == 0
    card = artifact.file("adapter/README.md").read_text()
    assert "prompts with the right answer, which the reference reads" in card
    assert "left out: no prompt for the reference, or one too long | 0, 0" in card
    # what the teacher reads in the first step is what was rendered for it
    sequences, told = first_step(spec), prompts_of(done, "tokens/reference")
    plain = prompts_of(done, "tokens")
    for row, name in enumerate(sequences.ids):
        reference = [one for one in sequences.reference_BP[row].tolist() if one >= 0]
        assert reference == told[name.partition("#")[0]]
        own = sequences.target_BL[row, sequences.prompt_BL[row]].tolist()
        assert own == plain[name.partition("#")[0]] != reference


def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path: Path, started: list[TrainSpec]) -> None:
    run(world_of(tmp_path, "llada"))
    runs = []
    for name in ("whole", "killed"):
        folder, adapter = tmp_path / name / "run", tmp_path / name / "adapter"
        folder.mkdir(parents=True)
        adapter.mkdir()
        runs.append(started[0].model_copy(update={"folder": folder, "adapter": adapter}))
    whole, killed = runs
    train_here(whole)
    killed.paths.stop.touch()
    with pytest.raises(InterruptedRunError, match="step 1 of 3"):
        train_here(killed)
    killed.paths.stop.unlink()
    train_here(killed)
    assert adapter_bytes(killed) == adapter_bytes(whole) and curve(killed) == curve(whole)


def test_as_published_the_student_reads_the_solution_and_the_teacher_nothing_new(
    tmp_path: Path, started: list[TrainSpec]
) -> None:
    done = run(world_of(tmp_path, "llada"), variants={"a": {**TAD, "compat": True}})
    assert "tokens/reference" not in done
    sequences = first_step(started[0])
    shown, empty = (prompts_of(done, f"tokens/{name}") for name in ("solution", "empty-reference"))
    for row, name in enumerate(sequences.ids):
        example = name.partition("#")[0]
        assert sequences.target_BL[row, sequences.prompt_BL[row]].tolist() == shown[example]
        reference = sequences.reference_BP[row]
        assert reference[reference >= 0].tolist() == empty[example]


def test_other_variants_neither_see_such_prompts_nor_are_trained_again(
    tmp_path: Path, started: list[TrainSpec]
) -> None:
    world, other = world_of(tmp_path, "llada"), {"method": "tabom", "answers": "all"}
    before = run(world, variants={"a": other})
    after = run(world, last="train/b-s0", variants={"a": other, "b": TAD})
    nodes = [name for name in before if name != "train/a-s0"]
    assert {after[name].how for name in [*nodes, "train/a-s0"]} == {"cached"}
    assert set(after) - set(before) == {"tokens/reference", "train/b-s0"}
    assert "n_without_reference" not in after["train/a-s0"].artifact.manifest.counts
    assert started[0].references == () and started[1].references


def test_a_reference_that_leaves_no_room_is_left_out_and_counted(
    tmp_path: Path, started: list[TrainSpec], caplog: pytest.LogCaptureFixture
) -> None:
    world = world_of(tmp_path, "llada")
    done = run(world, last="grades/rollouts")
    told = prompts_of(done, "tokens/reference")
    lengths = sorted(map(len, told.values()))
    # room for the shorter ones with the longest answer and nothing more
    max_length = lengths[3] + 8
    done = run(world, max_length=max_length)
    counts = done["train/a-s0"].artifact.manifest.counts
    assert 0 < counts["n_reference_too_long"] == 14 - counts["n_out"] < 14
    assert counts["n_in"] == 14
    assert "behind the reference's prompt" in caplog.text and str(max_length) in caplog.text
    examples = load_examples(source_of(started[-1]), "descending", 0, max_length, tmp_path / "scratch")
    assert examples.longest.max() <= max_length and (examples.longest > examples.lengths).all()
    with pytest.raises(InputError, match=r"none of 14 .*14 of them behind the reference's prompt"):
        run(world, max_length=lengths[0])


def test_without_an_adapter_there_is_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        config_of(world_of(tmp_path, "llada"), lora=None)
    assert "variants.a (method tad)" in str(error.value) and "lora: null" in str(error.value)
