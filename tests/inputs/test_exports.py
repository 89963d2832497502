"""What exports hold: tokenizers for both majors of transformers, their type said, files for all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from fakes.decoding_checkpoint import write_student
from fakes.dream_checkpoint import write_dream, write_published_tokenizer
from safetensors.torch import load_file
from transformers import AutoTokenizer

from trims_core.students import load_student, load_student_tokenizer, save_official
from trims_core.students.tokenizer import save_tokenizer

TEXT = "Leo has 3 boxes\n  with 4 pens<|im_end|><|eot_id|> each. Ünïcödé"


def check_for_version_4(folder: Path) -> None:
    """What transformers 4.38 to 4.57 and tokenizers 0.15 to 0.22 can read of a tokenizer."""
    about = json.loads((folder / "tokenizer_config.json").read_text())
    assert about["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "extra_special_tokens" not in about  # a list there is an error before version 5
    assert all(isinstance(token, str) for token in about.get("additional_special_tokens", []))
    assert not {"backend", "is_local", "local_files_only", "auto_map"} & about.keys()
    assert isinstance(about["chat_template"], str)
    merges = json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]
    assert all(isinstance(merge, str) and merge.count(" ") == 1 for merge in merges)


def test_tokenizers_are_written_as_both_majors_read_them(project_root: Path, tmp_path: Path) -> None:
    source = project_root / "data" / "demo" / "student"
    before, _ = load_student_tokenizer(str(source))
    save_tokenizer(before, tmp_path)
    check_for_version_4(tmp_path)
    assert len(json.loads((tmp_path / "tokenizer.json").read_text())["model"]["merges"]) > 50
    after = AutoTokenizer.from_pretrained(str(tmp_path))
    assert after(TEXT)["input_ids"] == before(TEXT)["input_ids"]
    assert after.backend_tokenizer.to_str() == before.backend_tokenizer.to_str()
    assert (after.mask_token, after.eos_token, after.chat_template) == (
        before.mask_token,
        before.eos_token,
        before.chat_template,
    )
    assert set(after.all_special_tokens) == set(before.all_special_tokens)


def test_a_tokenizer_published_as_a_program_is_written_whole(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "dream").mkdir()
    before, _ = load_student_tokenizer(str(write_published_tokenizer(tmp_path / "dream", shared_data)))
    save_tokenizer(before, tmp_path / "out")
    check_for_version_4(tmp_path / "out")
    after = AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    assert after(TEXT)["input_ids"] == before(TEXT)["input_ids"]
    assert after.mask_token_id == before.mask_token_id == 151666


def test_config_json_says_the_rotary_base_and_the_type_to_older_programs(tmp_path: Path) -> None:
    source = write_dream(tmp_path / "s")
    path = source / "config.json"
    config = json.loads(path.read_text())
    del config["rope_theta"]
    config |= {"rope_parameters": {"rope_type": "default", "rope_theta": 777.0}, "torch_dtype": "bfloat16"}
    path.write_text(json.dumps(config))
    student = load_student(str(source), dtype="float32")
    save_official(student.model, student.family.config, None, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {
        **config,
        "rope_theta": 777.0,
        "torch_dtype": "float32",
    }


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_files_have_the_permissions_that_the_umask_gives(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        student = load_student(str(write_student(tmp_path / "s")))
        save_official(student.model, student.family.config, student.tokenizer, tmp_path / "out", 20_000)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert len(modes) > 5
    assert set(modes.values()) == {0o666 & ~mask}


def test_the_weights_are_the_students(tmp_path: Path) -> None:
    student = load_student(str(write_student(tmp_path / "s")))
    save_official(student.model, student.family.config, student.tokenizer, tmp_path / "out")
    first, again = (load_file(tmp_path / name / "model.safetensors") for name in ("s", "out"))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
