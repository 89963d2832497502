"""D2F from the corpus to its sweep: trained block by block, and decoded so in every way there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.decoding_world import config_of, samples_of, write_sweep_world
from fakes.dream_checkpoint import write_dream
from fakes.training_runs import train_here
from typer.testing import CliRunner

from flows.cli import app
from trims_core.config import TrimsConfig
from trims_core.errors import ConfigError
from trims_core.generation.assistant import Assistant
from trims_core.graph import build_graph
from trims_core.settings import parse_config
from trims_core.stage import run_node
from trims_core.store import Artifact, Store
from trims_core.students import load_student
from trims_core.training import launch

TRAIN: dict[str, Any] = {
    "variants": {"d2f": {"method": "d2f", "block_length": 8}},
    "max_steps": 2,
    "batch_size": 2,
    "micro_batch_size": 1,
    "lr": 0.3,
    "lora": {"r": 2, "alpha": 8, "dropout": 0.1},
    "max_length": 240,
    "validation_fraction": 0.2,
    "eval_steps": 1,
    "keep": "best",
}


def write(root: Path, family: str, **sweep: Any) -> None:
    """A world whose corpus are its problems, without a teacher."""
    corpus = {
        "path": str(root / "test.jsonl"),
        "prompt_column": "question",
        "completion_column": "answer",
    }
    raw = {"scores": None, "corpus": corpus, "train": TRAIN}
    write_sweep_world(root, raw=raw, **{"thresholds": [0.3], "untuned": False, **sweep})
    if family == "dream":
        for path in (root / "student").iterdir():
            path.unlink()
        write_dream(root / "student", with_tokenizer=True)
        config = root / "student" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": 256}))


@pytest.fixture(scope="module", autouse=True)
def _in_process() -> Iterator[None]:
    """Trains in this process and without DeepSpeed."""

    def run(spec: Any, _launch: Any, _progress: Any) -> None:
        plain = spec.model_copy(update={"engine": "plain"})
        plain.write()
        train_here(plain)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "run_training", run)
        yield


@pytest.fixture(scope="module", params=["llada", "dream"])
def world(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world whose D2F student is trained."""
    root: Path = tmp_path_factory.mktemp(request.param)
    write(root, request.param)
    made(config_of(root), until="train/d2f-s0")
    return root


def made(config: TrimsConfig, until: str) -> Artifact:
    """The artifact of a node, with all it is made from."""
    store, found = Store(config.store), dict[str, Artifact]()
    for node in build_graph(config):
        if set(node.parents.values()) <= found.keys():
            parents = {role: found[parent] for role, parent in node.parents.items()}
            found[node.id] = run_node(store, config, node, parents).artifact
        if node.id == until:
            break
    return found[until]


def sampled(root: Path, *settings: str) -> dict[str, dict[str, list[Any]]]:
    """The samples of each cell of the D2F student's sweep."""
    artifact = made(config_of(root, *settings), until="sweep/d2f-s0")
    cells = dict.fromkeys(unit.name.rpartition("/")[0] for unit in artifact.units)
    return {cell: samples_of(artifact, cell) for cell in cells}


def test_the_exact_cache_gives_the_samples_of_no_cache(world: Path) -> None:
    rule = ("sweep.rule=pipelined", "sweep.pipeline_add=0.25")
    plain, cached = sampled(world, *rule), sampled(world, *rule, "sweep.cache=exact")
    assert set(plain) == {"demo-tone", "demo-t0.3"} and set(cached) == {"demo-tone-exact", "demo-t0.3-exact"}
    for cell, columns in plain.items():
        for name in ("token_ids", "reveal_step", "n_forwards", "text"):
            assert columns[name] == cached[f"{cell}-exact"][name]
    assert sum(plain["demo-t0.3"]["n_forwards"]) < sum(plain["demo-tone"]["n_forwards"])


def test_the_adapter_and_its_card_say_how_it_attends(world: Path) -> None:
    artifact = made(config_of(world), until="train/d2f-s0")
    folder = artifact.file("adapter/adapter_config.json").parent
    assert json.loads((folder / "adapter_config.json").read_text())["block_causal_length"] == 8
    card = (folder / "README.md").read_text()
    assert "D2F (block-causal attention, blocks of 8)" in card and "PeftModel" not in card


def test_the_sweep_decodes_as_the_adapter_was_trained(world: Path) -> None:
    """Full attention would give other texts."""
    from trims_core.decoding import DecodeSettings, decode, one_per_forward
    from trims_core.rendering import Renderer

    config = config_of(world)
    samples = sampled(world)["demo-tone"]
    folder = made(config, until="train/d2f-s0").file("adapter/adapter_config.json").parent
    student = load_student(config.student.model, adapter=folder)
    conversations = [[{"role": "user", "content": text}] for text in samples["prompt"]]
    prompts = Renderer(student.tokenizer).prompts(conversations)
    settings = DecodeSettings(one_per_forward(16), 16, 8)
    assert [one.token_ids for one in decode(student, prompts, settings)] == samples["token_ids"]
    student.family = student.family.attending_in_blocks(None)
    assert [one.token_ids for one in decode(student, prompts, settings)] != samples["token_ids"]


def test_generate_and_a_merged_export_attend_alike(world: Path, tmp_path: Path) -> None:
    config = config_of(world)
    folder = made(config, until="train/d2f-s0").file("adapter/adapter_config.json").parent
    assistant = Assistant.load(config.student.model, folder)
    answer = assistant.answer("How many?", gen_length=16)
    assert answer.settings.block_length == 8 and answer.settings.cache.name == "exact"
    with pytest.raises(ConfigError, match="trained to attend in blocks of 8"):
        assistant.answer("How many?", gen_length=16, block_length=16)
    out = tmp_path / "merged"
    arguments = ["export", str(world / "tiny.yaml"), str(out), "--merge"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    merged = Assistant.load(str(out))
    assert merged.student.family.block_causal_length == 8
    assert merged.answer("How many?", gen_length=16).decoded.token_ids == answer.decoded.token_ids


def test_validation_is_seen_as_the_student_attends(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trims_core.training.student import TrainedStudent

    seen = []
    original = TrainedStudent.cross_entropy

    def watched(self: Any, batch: Any, view: Any, weight_BL: Any) -> Any:
        seen.append(view.block_BL is not None)
        return original(self, batch, view, weight_BL)

    monkeypatch.setattr(TrainedStudent, "cross_entropy", watched)
    made(config_of(world, "train.seeds=[1]"), until="train/d2f-s1")
    assert seen and all(seen)


def test_an_untuned_student_is_not_swept_with_the_exact_cache(world: Path) -> None:
    config = config_of(world, "sweep.untuned=true", "sweep.cache=exact")
    with pytest.raises(
        ConfigError, match=r"cache exact with the untuned student: .* attends in both directions"
    ):
        made(config, until="sweep/untuned")


def test_rollouts_of_an_untuned_student_have_no_exact_cache(world: Path) -> None:
    rollouts = json.dumps({"grader": "demo", "gen_length": 16, "block_length": 8, "cache": "exact"})
    variants = json.dumps({"tabom": {"method": "tabom"}})
    config = config_of(world, f"rollouts={rollouts}", f"train.variants={variants}")
    with pytest.raises(ConfigError, match="rollouts: cache exact with the untuned student"):
        made(config, until="rollouts/untuned")


REST = {
    "name": "d2f",
    "corpus": {"path": "a.jsonl"},
    "student": {"model": "student"},
}
TASKS = {"demo": {"benchmark": "demo", "path": "b.jsonl"}}


@pytest.mark.parametrize(
    ("train", "sweep", "says"),
    [
        (
            {},
            {"block_length": 16},
            r"train.variants.a \(method d2f\) attends in blocks of 8, and task demo is decoded in .* 16",
        ),
        (
            {"variants": {"b": {"method": "standard"}}},
            {"cache": "exact"},
            r"cache exact with train.variants.b \(method standard\): its student attends in both",
        ),
        (
            {"lora": None},
            {},
            r"lora: null with variants.a \(method d2f\): it learns from the student without",
        ),
        (
            {"variants": {"a": {"method": "d2f", "block_length": 8, "noise_min": 0.9}}},
            {},
            "noise_min 0.9 is above noise_max 0.7; swap them",
        ),
        ({}, {"rule": "pipelined", "thresholds": [0.9], "cache": "dual"}, "rule pipelined with cache dual"),
        (
            {},
            {"rule": "multi_block", "thresholds": [0.9], "cache": "prefix"},
            "multi_block with cache prefix",
        ),
        (
            {},
            {"rule": "pipelined", "thresholds": [1.5]},
            "thresholds 1.5 with rule pipelined: expected a prob",
        ),
        ({}, {"cache": "exact", "sampling": {"guidance": 1.0}}, "guidance with cache exact: not defined"),
        (
            {},
            {"cache": "exact", "rule": "dream_official", "thresholds": [0.9]},
            "rule dream_official with cache exact: set block_length to gen_length",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    train: dict[str, Any], sweep: dict[str, Any], says: str
) -> None:
    variants = {"a": {"method": "d2f", "block_length": 8}}
    with pytest.raises(ConfigError, match=says):
        parse_config(
            {
                **REST,
                "train": {"variants": variants, **train},
                "sweep": {"tasks": TASKS, "gen_length": 16, "block_length": 8, **sweep},
            }
        )


def test_hard_labels_need_no_adapter(tmp_path: Path) -> None:
    write(tmp_path, "llada")
    raw = {"variants": {"a": {"method": "d2f", "block_length": 8, "self_align": False}}, "lora": None}
    settings = [f"train.{name}={json.dumps(value)}" for name, value in {**raw, "lr": 1e-3}.items()]
    artifact = made(config_of(tmp_path, *settings), until="train/a-s0")
    folder = artifact.file("checkpoint/config.json").parent
    assert load_student(str(folder)).family.block_causal_length == 8
