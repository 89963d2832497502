"""The attention that weights were trained under: written beside them, read by every loader, never mixed."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.decoding_checkpoint import write_student
from fakes.dream_checkpoint import write_dream
from peft import LoraConfig, PeftModel, get_peft_model

from trims_core.config import ScoresConfig
from trims_core.errors import ConfigError
from trims_core.students import (
    load_student,
    merge_adapter,
    read_family,
    save_adapter_official,
    save_official,
)
from trims_core.students.adapter_config import read_adapter_config
from trims_core.teacher.student_teacher import StudentTeacher


@pytest.fixture(params=["llada", "dream"])
def checkpoint(request: Any, tmp_path: Path) -> str:
    write = write_student if request.param == "llada" else write_dream
    return str(write(tmp_path / "student"))


def adapter(checkpoint: str, folder: Path, length: int | None = None) -> Path:
    """A random adapter that was trained in blocks of this length."""
    student = load_student(checkpoint)
    targets = student.family.lora_targets("attention")
    tuned = get_peft_model(student.model, LoraConfig(r=2, lora_alpha=4, target_modules=targets))
    save_adapter_official(tuned, folder, block_causal_length=length)
    return folder


def test_an_adapter_says_what_it_was_trained_under(checkpoint: str, tmp_path: Path) -> None:
    found = adapter(checkpoint, tmp_path / "blocks", 8)
    assert json.loads((found / "adapter_config.json").read_text())["block_causal_length"] == 8
    student = load_student(checkpoint, adapter=found)
    assert student.family.block_causal_length == 8
    assert student.model.get_base_model().student_family is student.family
    merge_adapter(student)
    assert student.family.block_causal_length == 8
    plain = adapter(checkpoint, tmp_path / "plain")
    assert "block_causal_length" not in json.loads((plain / "adapter_config.json").read_text())
    assert load_student(checkpoint, adapter=plain).family == load_student(checkpoint).family
    assert load_student(checkpoint).family.block_causal_length is None


def test_it_is_kept_when_the_adapter_is_saved_again(checkpoint: str, tmp_path: Path) -> None:
    student = load_student(checkpoint, adapter=adapter(checkpoint, tmp_path / "blocks", 8))
    save_adapter_official(student.model, tmp_path / "again")
    assert read_adapter_config(tmp_path / "again" / "adapter_config.json")["block_causal_length"] == 8


def test_a_merged_checkpoint_says_it_in_its_config(checkpoint: str, tmp_path: Path) -> None:
    student = load_student(checkpoint, adapter=adapter(checkpoint, tmp_path / "blocks", 8))
    merge_adapter(student)
    save_official(student.model, student.family.config, None, tmp_path / "merged")
    assert read_family(tmp_path / "merged").block_causal_length == 8
    again = load_student(str(tmp_path / "merged"))
    ids_BL = torch.arange(12)[None]
    with torch.inference_mode():
        torch.testing.assert_close(again.forward(ids_BL), student.forward(ids_BL), atol=1e-5, rtol=1e-5)


def test_peft_loads_it_and_says_that_it_does_not_know_the_key(tmp_path: Path) -> None:
    checkpoint = str(write_dream(tmp_path / "student"))
    found = adapter(checkpoint, tmp_path / "blocks", 8)
    with pytest.warns(UserWarning, match="block_causal_length"):
        PeftModel.from_pretrained(load_student(checkpoint).model, str(found))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_student(checkpoint, adapter=found)


@pytest.mark.parametrize("value", [0, -8, "16", 2.5, True])
def test_a_length_that_is_none_is_refused(checkpoint: str, tmp_path: Path, value: Any) -> None:
    found = adapter(checkpoint, tmp_path / "blocks", 8)
    path = found / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "block_causal_length": value}))
    with pytest.raises(ConfigError, match=r"block_causal_length = .* \(expected a whole number from 1\)"):
        load_student(checkpoint, adapter=found)
    config = Path(checkpoint) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "block_causal_length": value}))
    with pytest.raises(ConfigError, match=r"block_causal_length = .* \(expected a whole number from 1\)"):
        read_family(checkpoint)


def test_an_adapter_of_another_attention_is_refused_on_a_block_causal_student(
    checkpoint: str, tmp_path: Path
) -> None:
    plain, other = (adapter(checkpoint, tmp_path / str(length), length) for length in (None, 4))
    same = adapter(checkpoint, tmp_path / "same", 8)
    path = Path(checkpoint) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "block_causal_length": 8}))
    with pytest.raises(ConfigError, match="attention in both directions; the student attends in blocks of 8"):
        load_student(checkpoint, adapter=plain)
    with pytest.raises(ConfigError, match="in blocks of 4; the student attends in blocks of 8"):
        load_student(checkpoint, adapter=other)
    assert load_student(checkpoint, adapter=same).family.block_causal_length == 8


def test_what_a_position_may_see_is_all_that_changes_it(checkpoint: str) -> None:
    student = load_student(checkpoint)
    ids_BL, lookback = torch.arange(1, 11)[None], student.family.lookback
    seen_BQL = torch.ones(1, 10, 10, dtype=torch.bool).tril()
    other_BL = ids_BL.clone()
    other_BL[0, 7] = 20
    with torch.inference_mode():
        one, other = (student.hidden(ids, None, seen_BQL) for ids in (ids_BL, other_BL))
    torch.testing.assert_close(one[:, : 7 + lookback], other[:, : 7 + lookback], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(one[:, 7 + lookback :], other[:, 7 + lookback :], atol=1e-3)


def test_a_block_causal_student_is_no_teacher(checkpoint: str) -> None:
    path = Path(checkpoint) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "block_causal_length": 8}))
    teacher = StudentTeacher(ScoresConfig(teacher="student", model=checkpoint))
    with pytest.raises(ConfigError, match="attends in blocks of 8, and this teacher masks a completion"):
        teacher._load()
