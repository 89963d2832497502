"""The stage's key, what an adapter depends on and what it does not; the bytes of equal adapters."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest
from fakes import training_cli
from fakes.hub import FakeHub
from fakes.training_runs import train_here

from trims_core.config import StudentConfig, TrainingConfig
from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests
from trims_core.graph import build_graph, node_named
from trims_core.pinning import pinned
from trims_core.settings import load_config, parse_config
from trims_core.stage import Work, node_key, open_parents, run_node
from trims_core.store import Attempt, Store
from trims_core.training import launch, stage
from trims_core.training.card import model_card
from trims_core.training.settings import base_name, train_settings
from trims_core.training.stage import SPEC
from trims_core.training.zero import ZERO2
from trims_core.variants import EndsConfig, StandardVariant


class OneParent:
    """Stands in for the buckets artifact where only its digest is read."""

    content_digest = "0" * 64


@pytest.fixture
def fingerprint(tmp_path):
    """fingerprint(node=…, raw changes by section) of a train node."""
    base, store = training_cli.raw_config(tmp_path), Store(tmp_path / "store")

    def compute(node="train/trims-s0", digest="0" * 64, **sections):
        raw = {**base, **{name: {**base[name], **fields} for name, fields in sections.items()}}
        config = parse_config(raw)
        parent = OneParent()
        parent.content_digest = digest
        found = node_named(build_graph(config), node)
        return node_key(store, SPEC, config, found, MappingProxyType({"buckets": parent})).fingerprint

    return compute


CHANGES = {
    "lr": {"train": {"lr": 0.5}},
    "lora": {"train": {"lora": {"r": 5}}},
    "own variant": {"train": {"variants": {"trims": {"rho": 0.25}}}},
    "steps": {"train": {"max_steps": 7}},
    "validation": {"train": {"validation_fraction": 0.1}},
    "dtype": {"student": {"dtype": "bfloat16"}},
    "grouping by length": {"train": {"length_window": 8}},
    "ends": {"train": {"pads": "standard"}},
    "number of ends": {"train": {"end_tokens": 5}},
    "probability of ends": {"train": {"pads": "last", "pads_p_high": 0.9}},
    "weight of ends": {"train": {"end_weight": 0.25}},
    "end of turn": {"train": {"hide_end_of_turn": True}},
    "own masks": {"train": {"variants": {"trims": {"masks": "fakes.training_student:tiny_train"}}}},
    "own ends": {"train": {"variants": {"trims": {"pads": "last"}}}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_changes_the_adapter_changes_the_key(fingerprint, name):
    assert fingerprint(**CHANGES[name]) != fingerprint()


def test_seed_method_and_the_buckets_content_change_the_key(fingerprint):
    found = {
        fingerprint(),
        fingerprint(digest="1" * 64),
        fingerprint(node="train/standard-s0"),
        fingerprint(node="train/trims-s1", train={"seeds": [0, 1]}),
    }
    assert len(found) == 4


SAME = {
    "another variant": {"train": {"variants": {"trims": {}, "new": {"order": "ascending"}}}},
    "more seeds": {"train": {"seeds": [0, 1, 2]}},
    "topology": {"train": {"launch": {"processes": 2}}},
    "unread epochs": {"train": {"epochs": 99}},
    "device": {"student": {"device": "auto"}},
    "trackers": {"train": {"report_to": ["tensorboard"], "logging_dir": "elsewhere"}},
    "a default that was left out": {"train": {"length_window": 16}},
    "ends said twice": {"train": {"variants": {"trims": {"pads": "hidden", "end_weight": 1.0}}}},
    "unread ends": {"train": {"pads_rho": 0.1, "pads_p_high": 0.9}},
    "store": {"report": {"title": "other"}},
}


@pytest.mark.parametrize("name", SAME)
def test_whatever_does_not_change_the_adapter_keeps_the_key(fingerprint, tmp_path, name):
    changes = SAME[name]
    if "report" in changes:
        assert fingerprint(sweep={"stop_at_end": False}) == fingerprint()
    else:
        assert fingerprint(**changes) == fingerprint()


def test_a_deepspeed_file_counts_by_its_content_and_the_default_equals_the_shipped_one(
    fingerprint, tmp_path, project_root
):
    shipped = project_root / "configs" / "deepspeed" / "zero2.json"
    copy = tmp_path / "other-name.json"
    copy.write_text(shipped.read_text())
    assert fingerprint(train={"deepspeed": str(copy)}) == fingerprint(train={"deepspeed": None})
    copy.write_text(shipped.read_text().replace('"stage": 2', '"stage": 1'))
    assert fingerprint(train={"deepspeed": str(copy)}) != fingerprint()


def test_the_standard_method_does_not_depend_on_settings_it_does_not_read(fingerprint):
    def standard(**fields):
        variants = {"standard": {"method": "standard", **fields}}
        return fingerprint(node="train/standard-s0", train={"variants": variants})

    assert standard(rho=0.25, order="random", p_low=0.2, p_high=0.9) == standard()
    assert standard(rho=0.25, loss_weight="balanced") == standard(loss_weight="balanced")
    assert standard(rho=0.25, loss_weight="bucket_profile") != standard(loss_weight="bucket_profile")
    assert standard(inverse_p_clip=9, loss_weight="inverse_p") != standard(loss_weight="inverse_p")
    assert standard(pads="none", end_weight=0.5) == standard(pads="none")
    assert standard(loss_weight="uniform") != standard()
    assert standard(cart_p=0.5) == standard()
    assert standard(loss_weight="cart", cart_p=0.5) != standard(loss_weight="cart")


def test_what_is_hashed_is_what_the_training_gets(tmp_path):
    """Fields that the method does not read are at their defaults, in the settings themselves."""
    config = parse_config(
        training_cli.raw_config(
            tmp_path,
            epochs=99,
            pads="none",
            end_weight=0.5,
            variants={"standard": {"method": "standard", "cart_p": 0.5, "rho": 0.1, "pads": "standard"}},
        )
    )
    (node,) = (node for node in build_graph(config) if node.stage == "train")
    settings = train_settings(config, node)
    assert settings.variant == StandardVariant()
    assert settings.ends == EndsConfig(pads="standard", tokens=32, weight=0.5)
    assert settings.train.epochs == TrainingConfig().epochs
    assert settings.train.length_window == config.train.window
    assert settings.deepspeed == ZERO2
    hashed = settings.result_fields()
    assert hashed["ends"] == settings.ends.model_dump()
    assert hashed["variant"] == settings.variant.result_fields()
    assert {"run_name", "variant_name"}.isdisjoint(hashed)


def test_validation_reads_the_number_of_ends_even_where_training_has_none(fingerprint):
    found = {fingerprint(train={"pads": "none", "end_tokens": n, "end_weight": 0.5}) for n in (5, 32)}
    assert len(found) == 2
    assert fingerprint(train={"pads": "none", "end_tokens": 5}) in found


def test_masks_of_the_users_own_count_by_their_file_and_must_exist(fingerprint):
    with pytest.raises(ConfigError, match=r"train\.variants\.trims\.masks: no module 'no_such_masks'"):
        fingerprint(train={"variants": {"trims": {"masks": "no_such_masks:draw"}}})
    with pytest.raises(ConfigError, match=r"'words'; expected package\.module:Name"):
        fingerprint(train={"variants": {"trims": {"masks": "words"}}})


def card_of(tmp_path, node, **student):
    """The model card of a node's adapter, which ended well."""
    raw = training_cli.raw_config(tmp_path)
    raw["student"].update(student)
    raw["train"]["seeds"] = [3]
    config = parse_config(raw)
    result = {
        "steps": 6,
        "kept_step": 6,
        "trainable_parameters": 1234,
        "counts": {"n_examples": 20, "n_validation": 4, "n_truncated": 0, "n_without_completion": 0},
    }
    digests = {"student": "abc", "buckets": "def"}
    finals = {"train_loss": 1.23456, "eval_loss": None, "eval_end_loss": None}
    settings = train_settings(config, node_named(build_graph(config), node))
    return model_card(settings, {"k": 4, "metric": "nll"}, digests, result, finals)


def test_the_model_card_names_data_method_settings_and_how_to_load(tmp_path):
    trims = card_of(tmp_path, "train/trims-s3")
    for expected in (
        "`abc`",
        "`def`",
        "| seed | 3 |",
        "| buckets | 4 by nll |",
        "1.2346",
        "none",
        "16, 4",
        "PeftModel.from_pretrained",
    ):
        assert expected in trims
    assert "| order | descending |" in trims
    standard = card_of(tmp_path, "train/standard-s3")
    assert "| order |" not in standard
    assert "| supervised ends | up to 32 behind an answer, masked: hidden |" in standard


def test_the_card_names_the_student_without_its_path(tmp_path):
    card = card_of(tmp_path, "train/trims-s3")
    assert str(tmp_path) not in card
    assert "base_model: student\n" in card
    assert "base_model: org/name\n" in card_of(tmp_path, "train/trims-s3", model="org/name")


def test_a_folder_is_called_by_its_last_part_and_a_hub_model_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert base_name(StudentConfig(model=str(tmp_path) + "/")) == tmp_path.name
    assert base_name(StudentConfig(model=".")) == tmp_path.name
    assert base_name(StudentConfig(model="GSAI-ML/LLaDA-8B-Base")) == "GSAI-ML/LLaDA-8B-Base"


@pytest.fixture
def trainings(monkeypatch):
    """Trains in this process and without DeepSpeed; the specs of all trainings that were started."""
    started = []

    def in_process(spec, _launch, _progress):
        started.append(spec)
        plain = spec.model_copy(update={"engine": "plain"})
        plain.write()
        train_here(plain)

    monkeypatch.setattr(launch, "run_training", in_process)
    return started


def trained(config, store):
    """The artifact of `train/trims-s0`."""
    node = node_named(build_graph(config), training_cli.NODE)
    return run_node(store, config, node, open_parents(store, config, node, training_cli.SPECS)).artifact


def bytes_of(artifact):
    names = [name for name in artifact.manifest.entries if not name.endswith("times.jsonl")]
    return {name: artifact.file(name).read_bytes() for name in names}


def test_the_adapter_is_a_folder_that_peft_loads_with_its_card_and_metrics(tmp_path, trainings):
    from trims_core.students import load_student

    _, config, store = training_cli.prepare(tmp_path, max_steps=2)
    artifact = trained(config, store)
    folder = artifact.file("adapter/adapter_config.json").parent
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "metrics.jsonl",
        "times.jsonl",
        "unit.json",
    }
    assert load_student(config.student.model, adapter=folder).model.peft_config
    assert artifact.manifest.counts["n_out"] == 20 and artifact.info["variant"] == "trims"
    assert artifact.info["steps"] == 2 and artifact.manifest.seed == 0
    assert "| optimizer steps × sequences | 2 × 8 |" in (artifact.path / "card.md").read_text()
    assert len(trainings) == 1


def test_equal_keys_give_equal_bytes_wherever_the_student_lies(tmp_path, trainings):
    found = []
    for place in ("one", "two/deeper"):
        (tmp_path / place).mkdir(parents=True)
        _, config, store = training_cli.prepare(tmp_path / place, max_steps=2)
        found.append(trained(config, store))
    assert found[0].fingerprint == found[1].fingerprint
    assert bytes_of(found[0]) == bytes_of(found[1])
    assert all(str(tmp_path).encode() not in content for content in bytes_of(found[0]).values())
    assert b'"base_model_name_or_path": "student"' in bytes_of(found[0])["adapter/adapter_config.json"]


def test_a_finished_training_that_was_not_recorded_is_not_repeated(tmp_path, trainings, monkeypatch):
    _, config, store = training_cli.prepare(tmp_path, max_steps=2)
    with monkeypatch.context() as broken:
        broken.setattr(stage, "model_card", lambda *_: pytest.fail("stopped before the record"))
        with pytest.raises(pytest.fail.Exception, match="before the record"):
            trained(config, store)
    artifact = trained(config, store)
    assert len(trainings) == 1
    assert (artifact.file("adapter/README.md")).is_file()
    assert not list((store.root / "units" / "train" / ".attempts").iterdir())


def test_a_variant_that_differs_in_what_it_does_not_read_is_not_trained_again(tmp_path, trainings):
    _, config, store = training_cli.prepare(tmp_path, max_steps=2)
    first = trained(config, store)
    _, other, _ = training_cli.prepare(tmp_path, max_steps=2, variants={"trims": {"cart_p": 0.5}})
    assert trained(other, store).path == first.path
    assert len(trainings) == 1


def test_a_hub_student_is_loaded_at_the_commit_of_its_key(tmp_path: Path, hub: FakeHub) -> None:
    commit = hub.commit("models/org/student", {"config.json": "{}"})
    hub.after_info = lambda _repo: hub.commit("models/org/student", {"config.json": "[]"})
    config = load_config(
        "configs/demo.yaml", ["student.model=org/student", "student.revision=main", "student.device=cpu"]
    )
    node = node_named(build_graph(config), "train/trims-s0")
    parents = {"buckets": SimpleNamespace(files=lambda *_: [])}
    digests = Digests(None)
    settings = train_settings(pinned(config, digests, [node]), node)
    work = Work(node.id, settings, SPEC.inputs(settings, digests), parents, lambda *_: None)  # type: ignore[arg-type]
    spec = stage._spec(work, Attempt(tmp_path, tmp_path / "final"), 8, 1)
    assert (spec.student.model, spec.student.revision) == ("org/student", commit)
    assert work.inputs["student"] == Digests(None).checkpoint("org/student", commit)
