"""`trims export --merge`: the written checkpoint computes what student and adapter compute together.

Every test is run on a student of each family.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import flow_stages, stages
from fakes.dream_checkpoint import write_dream
from fakes.hub import FakeHub
from fakes.tiny_world import write_student
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer
from typer.testing import CliRunner

from flows.cli import app
from trims_core.config import StudentConfig
from trims_core.decoding.runner import load_runner
from trims_core.errors import ConfigError
from trims_core.graph import build_graph, select
from trims_core.settings import load_config
from trims_core.stage import Make, StageSpec, Unit, Work, run_node
from trims_core.store import Artifact, Attempt, Made, Store, UnitRecord
from trims_core.students import (
    load_student,
    load_student_tokenizer,
    read_family,
    save_adapter_official,
    save_official,
)
from trims_core.training.settings import train_settings


def _train_maker(
    work: Work, _facts: None, _waiting: Sequence[Unit], _done: Sequence[UnitRecord]
) -> AbstractContextManager[Make]:
    """An adapter of the configured student whose weights are far from zero."""

    def make(_unit: Unit, attempt: Attempt) -> Made:
        model = work.settings.student.model
        targets = read_family(model).lora_targets(("all-linear",))
        wrapped = get_peft_model(
            load_student(model).model, LoraConfig(r=2, lora_alpha=8, target_modules=targets)
        )
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for name, weight in wrapped.named_parameters():
                if "lora_" in name:
                    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
        save_adapter_official(wrapped, attempt.path)
        return Made({path.name: None for path in attempt.path.iterdir()})

    return stages.making(make, work)


def _whole_maker(
    work: Work, _facts: None, _waiting: Sequence[Unit], _done: Sequence[UnitRecord]
) -> AbstractContextManager[Make]:
    """A checkpoint as full fine-tuning leaves it."""

    def make(_unit: Unit, attempt: Attempt) -> Made:
        student = load_student(work.settings.student.model)
        weights = {name: weight + 0.25 for name, weight in student.model.state_dict().items()}
        save_official(student.model, student.family.config, student.tokenizer, attempt.path, weights=weights)
        (attempt.path / "README.md").write_text("a card")
        return Made({path.name: None for path in attempt.path.iterdir()}, aside=["README.md"])

    return stages.making(make, work)


def _whole_units(work: Work, _facts: None) -> list[Unit]:
    return [Unit("checkpoint", work.settings.result_fields(), work.inputs)]


@pytest.fixture(params=["llada", "dream"])
def student(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A student checkpoint in the official layout."""
    folder = tmp_path / "student"
    if request.param == "dream":
        return write_dream(folder, seed=2, with_tokenizer=True)
    return write_student(folder, seed=2)


@pytest.fixture
def trained(config: Path, student: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """A train artifact with a real adapter; the config names the real student."""
    train = replace(flow_stages.SPECS["train"], settings=train_settings, maker=_train_maker)
    return _made(config, student, monkeypatch, train)


@pytest.fixture
def whole(config: Path, student: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """A train artifact of full fine-tuning; the config names the real student."""
    config.write_text(config.read_text() + "train: {lora: null}\n")
    train = replace(
        flow_stages.SPECS["train"], settings=train_settings, maker=_whole_maker, units=_whole_units
    )
    return _made(config, student, monkeypatch, train)


def _made(config: Path, student: Path, monkeypatch: pytest.MonkeyPatch, train: StageSpec) -> Artifact:
    config.write_text(config.read_text().replace("model: ./none", f"model: {student}"))
    specs = {**flow_stages.SPECS, "train": train}
    monkeypatch.setattr(flow_stages, "SPECS", specs)
    flow_stages.install(monkeypatch)
    settings = load_config(config)
    store = Store(settings.store)
    done: dict[str, Artifact] = {}
    for node in select(build_graph(settings), "train/trims-s0"):
        parents = {role: done[parent] for role, parent in node.parents.items()}
        done[node.id] = run_node(store, settings, node, parents).artifact
    return done["train/trims-s0"]


def test_the_merged_checkpoint_equals_student_plus_adapter(
    config: Path, tmp_path: Path, trained: Artifact
) -> None:
    out = tmp_path / "merged"
    found = CliRunner().invoke(app, ["export", str(config), str(out), "--merge"])
    assert found.exit_code == 0, found.output
    ids_BL = torch.arange(24).reshape(2, 12)
    plain = load_student(str(tmp_path / "student"))
    tuned = load_student(
        str(tmp_path / "student"), adapter=trained.file("adapter/adapter_config.json").parent
    )
    merged = load_student(str(out))
    with torch.no_grad():
        plain_BLV, tuned_BLV, merged_BLV = (one.forward(ids_BL) for one in (plain, tuned, merged))
    torch.testing.assert_close(merged_BLV, tuned_BLV, rtol=0, atol=1e-4 * float(tuned_BLV.abs().max()))
    assert not torch.allclose(plain_BLV, tuned_BLV, atol=1e-2)
    assert merged.family.config == plain.family.config
    assert trained.fingerprint in (out / "README.md").read_text()


def test_the_merged_checkpoint_has_the_official_files_names_and_type(
    config: Path, tmp_path: Path, student: Path, trained: Artifact
) -> None:
    weights = load_file(student / "model.safetensors")
    save_file({name: one.bfloat16() for name, one in weights.items()}, student / "model.safetensors")
    (student / "modeling_it.py").write_text("raise SystemExit('executed')")
    found = CliRunner().invoke(
        app, ["export", str(config), str(tmp_path / "merged"), "--merge", "--dtype", "bfloat16"]
    )
    assert found.exit_code == 0, found.output
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    assert {name: (one.shape, one.dtype) for name, one in merged.items()} == {
        name: (one.shape, torch.bfloat16) for name, one in weights.items()
    }
    assert (tmp_path / "merged" / "modeling_it.py").read_bytes() == (student / "modeling_it.py").read_bytes()
    before, after = (load_student_tokenizer(str(folder))[0] for folder in (student, tmp_path / "merged"))
    assert before.get_vocab() == after.get_vocab()
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").mask_token_id == before.mask_token_id


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_exported_is_what_sweeps_decode_with(
    config: Path, tmp_path: Path, student: Path, trained: Artifact, dtype: str
) -> None:
    weights = load_file(student / "model.safetensors")
    save_file({name: one.bfloat16() for name, one in weights.items()}, student / "model.safetensors")
    out = tmp_path / "merged"
    named = ["--artifact", str(trained.path), "--set", f"student.dtype={dtype}"]
    found = CliRunner().invoke(app, ["export", str(config), str(out), "--merge", *named])
    assert found.exit_code == 0, found.output
    assert f"merged checkpoint ({dtype}, as measured in sweeps)" in found.output
    adapter = trained.file("adapter/adapter_config.json").parent
    measured = load_runner(
        StudentConfig(model=str(student), dtype=dtype, device="cpu"), adapter, None
    ).student
    exported = load_student(str(out), dtype="auto")
    assert str(exported.model.dtype) == f"torch.{dtype}"
    ids_BL = torch.arange(24)[None]
    with torch.no_grad():
        assert torch.equal(exported.forward(ids_BL), measured.forward(ids_BL))


def test_an_update_that_the_weights_would_lose_is_not_merged(
    config: Path, tmp_path: Path, student: Path, trained: Artifact
) -> None:
    weights = load_file(student / "model.safetensors")
    save_file({name: one * 1e4 for name, one in weights.items()}, student / "model.safetensors")
    named = ["--artifact", str(trained.path), "--merge"]
    out = tmp_path / "merged"
    found = CliRunner().invoke(app, ["export", str(config), str(out), *named, "--dtype", "bfloat16"])
    assert found.exit_code == 2
    assert "beside the weights in" in found.output
    assert "--dtype float32" in found.output
    assert not out.exists()
    found = CliRunner().invoke(app, ["export", str(config), str(out), *named, "--dtype", "float32"])
    assert found.exit_code == 0, found.output
    refused = CliRunner().invoke(app, ["export", str(config), str(tmp_path / "a"), "--dtype", "float32"])
    assert refused.exit_code == 2
    assert "add --merge" in refused.output


def test_four_bits_are_merged_into_another_type_only_where_one_is_named(
    config: Path, tmp_path: Path, trained: Artifact
) -> None:
    named = ["--artifact", str(trained.path), "--merge", "--set", "student.load_in_4bit=true"]
    found = CliRunner().invoke(app, ["export", str(config), str(tmp_path / "out"), *named])
    assert found.exit_code == 2
    assert "student.load_in_4bit: sweeps measured weights in 4 bits" in found.output
    found = CliRunner().invoke(
        app, ["export", str(config), str(tmp_path / "out"), *named, "--dtype", "float32"]
    )
    assert found.exit_code == 0, found.output
    assert "not as measured in sweeps" in found.output


def test_a_hub_student_is_merged_at_the_commit_whose_files_the_adapter_was_trained_on(
    config: Path, tmp_path: Path, student: Path, trained: Artifact, hub: FakeHub
) -> None:
    hub.upload("models/org/student", student)
    hub.after_info = lambda _repo: hub.commit("models/org/student", {"model.safetensors": b"others"})
    for name, model in (("from the hub", "org/student"), ("from here", str(student))):
        arguments = [str(config), str(tmp_path / name), "--merge", "--set", f"student.model={model}"]
        found = CliRunner().invoke(app, ["export", *arguments])
        assert found.exit_code == 0, found.output
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("from the hub", "from here")]
    assert weights[0] == weights[1]


def test_a_checkpoint_of_full_fine_tuning_is_copied(
    config: Path, tmp_path: Path, student: Path, whole: Artifact
) -> None:
    out = tmp_path / "copy"
    found = CliRunner().invoke(app, ["export", str(config), str(out)])
    assert found.exit_code == 0, found.output
    assert "checkpoint: " in found.output
    assert (out / "README.md").read_text() == "a card"
    before, after = (load_file(folder / "model.safetensors") for folder in (student, out))
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight + 0.25)
    assert (
        load_student_tokenizer(str(out))[0].get_vocab() == load_student_tokenizer(str(student))[0].get_vocab()
    )
    with torch.no_grad():
        assert load_student(str(out)).forward(torch.arange(12)[None]).isfinite().all()
    for more, message in (
        (["--merge"], "is a whole checkpoint already"),
        (["--dtype", "float32"], "copied as it is"),
    ):
        refused = CliRunner().invoke(app, ["export", str(config), str(tmp_path / "other"), *more])
        assert refused.exit_code == 2
        assert message in " ".join(refused.output.split())
        assert not (tmp_path / "other").exists()


def test_a_copied_checkpoint_carries_the_chat_template_of_the_settings(
    config: Path, tmp_path: Path, whole: Artifact
) -> None:
    template = tmp_path / "own.jinja"
    template.write_text("{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}")
    overrides = ["--artifact", str(whole.path), "--set", f"student.template_file={template}"]
    found = CliRunner().invoke(app, ["export", str(config), str(tmp_path / "copy"), *overrides])
    assert found.exit_code == 0, found.output
    assert AutoTokenizer.from_pretrained(tmp_path / "copy").chat_template == template.read_text()


def test_a_checkpoint_given_as_an_adapter_and_the_other_way_round_are_refused_by_name(
    tmp_path: Path, student: Path, trained: Artifact
) -> None:
    adapter = trained.file("adapter/adapter_config.json").parent
    with pytest.raises(ConfigError, match="holds a whole checkpoint; expected a PEFT adapter"):
        load_student(str(student), adapter=student)
    with pytest.raises(ConfigError, match="holds an adapter; expected a student checkpoint"):
        load_student(str(adapter))


def test_a_failed_export_leaves_nothing_under_its_name(
    config: Path, tmp_path: Path, trained: Artifact
) -> None:
    (tmp_path / "student" / "config.json").write_text("{}")
    found = CliRunner().invoke(app, ["export", str(config), str(tmp_path / "out"), "--merge"])
    assert found.exit_code != 0
    assert not (tmp_path / "out").exists()
