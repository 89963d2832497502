"""`trims doctor`: each kind of mistake is a line that names it, beside all that is well; nothing is made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from flows.cli import app
from trims_core.doctor import Diagnosis, diagnose, look_at_machine
from trims_core.settings import load_config


def diagnosis(project_root: Path, *overrides: str, adapter: Path | None = None) -> Diagnosis:
    config = load_config(project_root / "configs/demo.yaml", overrides)
    return diagnose(config, n_rows=20, adapter=adapter)


def wrong(found: Diagnosis) -> dict[str, str]:
    return {one.about: one.text for one in found.findings if one.state == "wrong"}


@pytest.fixture
def student(project_root: Path, tmp_path: Path) -> Path:
    """A copy of the demo's student that a test may damage."""
    return Path(shutil.copytree(project_root / "data/demo/student", tmp_path / "student"))


@pytest.fixture(autouse=True)
def _in_the_project_without_gpus(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project_root)
    monkeypatch.setattr("trims_core.doctor.has_cuda", lambda: False)


def test_the_demo_is_well_and_shows_three_examples_as_each_model_reads_them(
    project_root: Path, tmp_path: Path
) -> None:
    found = diagnosis(project_root, f"store={tmp_path / 'store'}")
    assert wrong(found) == {}
    for reader, end in (("teacher", "<|im_end|>"), ("student", "<|eot_id|>")):
        assert [one["id"] for one in found.shown[reader]] == [f"train-{n:05d}" for n in range(3)]
        assert all(one["text"].endswith(f"The answer is 13.{end}") for one in found.shown[reader][:1])
    assert list(tmp_path.iterdir()) == [], "nothing is made"


def test_everything_that_is_wrong_is_told_at_once(project_root: Path, student: Path, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "1+1?"}]}, {"messages": []}]
    (tmp_path / "bad.jsonl").write_text("\n".join(map(json.dumps, rows)))
    weights = load_file(student / "model.safetensors")
    name = sorted(weights)[0]
    save_file({**weights, name: torch.zeros(3)}, student / "model.safetensors")
    found = wrong(
        diagnosis(
            project_root,
            f"corpus.path={tmp_path / 'bad.jsonl'}",
            f"student.model={student}",
            "student.device=cuda",
            "scores.model=nowhere/to be found",
            "resources.train.gpus=64",
        )
    )
    assert "bad.jsonl:1" in found["corpus"] and "bad.jsonl:2" in found["corpus"]
    assert f"{student / 'model.safetensors'}: {name} is of shape [3]" in found["student"]
    assert "nowhere/to be found" in found["teacher"]
    assert "no CUDA device is seen" in found["GPUs"]


def test_what_a_template_refuses_is_told_with_its_row(project_root: Path, tmp_path: Path) -> None:
    template = tmp_path / "strict.jinja"
    template.write_text(
        "{% for m in messages %}"
        "{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    turns = [("system", "Be short."), ("user", "1+1?"), ("assistant", "2")]
    rows = [
        {"id": name, "messages": [{"role": role, "content": text} for role, text in chosen]}
        for name, chosen in (("fine", turns[1:]), ("strict", turns))
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = [f"corpus.path={tmp_path / 'rows.jsonl'}", f"scores.template_file={template}"]
    found = diagnosis(project_root, *words)
    assert "1 of 2 examples are rejects: strict (template_refuses:" in wrong(found)["teacher"]
    assert "no system turns" in wrong(found)["teacher"]
    assert wrong(diagnosis(project_root, *words, "scores.max_rejected_fraction=0.5")) == {}


def test_an_adapter_that_would_do_nothing_is_refused_by_name(project_root: Path, tmp_path: Path) -> None:
    raw = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps({**raw, "alora_invocation_tokens": [1, 2]}))
    assert "alora_invocation_tokens" in wrong(diagnosis(project_root, adapter=tmp_path))["adapter"]


def test_packages_that_do_not_fit_and_a_store_that_cannot_be_written_are_told(
    project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = ["torch>=99", "no-such-package-here", "other; extra == 'more'"]
    monkeypatch.setattr("trims_core.doctor.metadata.requires", lambda _name: needed)
    monkeypatch.setattr("trims_core.doctor.os.access", lambda *_: False)
    found = wrong(look_at_machine(load_config(project_root / "configs/demo.yaml", [f"store={tmp_path}"])))
    assert (
        "torch>=99 (2." in found["versions"] and "no-such-package-here (not installed)" in found["versions"]
    )
    assert "other" not in found["versions"]
    assert f"{tmp_path}: cannot be written to" in found["disk"]


def test_a_store_that_is_a_file_and_a_project_that_is_not_installed_are_told(
    project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").touch()
    monkeypatch.setattr("trims_core.doctor.PACKAGE", "trims-pipeline-elsewhere")
    config = load_config(project_root / "configs/demo.yaml", [f"store={tmp_path / 'store'}"])
    found = {one.about: one for one in look_at_machine(config).findings if one.state != "ok"}
    assert "a file; expected a folder" in found["disk"].text
    assert found["versions"].state == "look"


def test_the_command_ends_with_1_where_something_is_wrong_and_plan_tells_the_cheap_half(
    project_root: Path, tmp_path: Path
) -> None:
    words = ["--set", f"store={tmp_path / 'store'}"]
    well = CliRunner().invoke(app, ["doctor", "configs/demo.yaml", "--rows", "5", *words])
    assert well.exit_code == 0, well.output
    assert "teacher reads train-00000" in well.output
    broken = [*words, "--set", "student.device=cuda:0"]
    ill = CliRunner().invoke(app, ["doctor", "configs/demo.yaml", "--quiet", *broken])
    assert ill.exit_code != 0 and "1 thing(s) are wrong" in ill.output
    assert "reads train-00000" not in ill.output
    planned = CliRunner().invoke(app, ["plan", "configs/demo.yaml", *broken])
    assert planned.exit_code == 0
    assert "GPUs: student.device is cuda:0, and no CUDA device is seen" in planned.output


def test_a_run_without_a_teacher_is_looked_at_without_one(project_root: Path) -> None:
    plain = ["train.variants={a: {method: standard}}", "report.compare=null"]
    found = diagnosis(project_root, "scores=null", *plain)
    assert "teacher" not in {one.about for one in found.findings}
    assert wrong(found) == {}
    own = ["train.variants={a: {method: tabom}}", "report.compare=null"]
    unused = diagnosis(project_root, *own, "rollouts={grader: dema}")
    said = {one.about: one.text for one in unused.findings}
    nobody = "no variant of train.variants needs the section scores"
    assert said["settings"] == f"{nobody}: the analysis alone reads its teacher"
    assert "teacher" in said
    without = diagnosis(project_root, *own, "rollouts={grader: demo}", "analysis=null")
    said_without = {one.about: one.text for one in without.findings}
    assert said_without["settings"] == f"{nobody}: it is not used"
    assert "teacher" not in said_without
    assert wrong(unused).keys() == {"rollouts"}
    assert "did you mean 'demo'" in said["rollouts"]
