"""Where and how a student is loaded: types, devices, four bits. Every test holds for both families."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from peft import LoraConfig, get_peft_model

from trims_core.config import StudentConfig
from trims_core.errors import ConfigError
from trims_core.students import (
    Student,
    load_student,
    random_student,
    read_family,
    save_adapter_official,
    save_official,
)

IDS_BL = torch.arange(12)[None]
HAS_BITSANDBYTES = find_spec("bitsandbytes") is not None


@pytest.fixture(params=["llada-8b", "dream-7b"], scope="module")
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the published kind with two narrow layers."""
    student = random_student(request.param, n_layers=2, width=64, mlp_width=64, n_heads=2, n_kv_heads=1)
    folder: Path = tmp_path_factory.mktemp("student")
    save_official(student.model, student.family.config, None, folder)
    return folder


def logits(student: Student) -> torch.Tensor:
    with torch.no_grad():
        return student.forward(IDS_BL)


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}, {"model": "cpu", "lm_head": "cpu"}])
def test_a_device_map_changes_no_logit(checkpoint: Path, device_map: Any) -> None:
    mapped = load_student(str(checkpoint), device_map=device_map)
    assert torch.equal(logits(mapped), logits(load_student(str(checkpoint))))


def test_layers_that_are_fetched_for_each_forward_change_no_logit(checkpoint: Path, tmp_path: Path) -> None:
    plain = load_student(str(checkpoint))
    moved = load_student(str(checkpoint))
    accelerate.disk_offload(moved.model, str(tmp_path / "offload"), execution_device=torch.device("cpu"))
    assert moved.model.lm_head.weight.device.type == "meta"
    assert torch.equal(logits(moved), logits(plain))


@pytest.mark.parametrize(
    ("device_map", "named"),
    [({"model.layers": "cpu"}, "embed_tokens"), ({"model": "cpu", "lm_head": "disk"}, "disk")],
)
def test_a_device_map_that_leaves_weights_without_memory_is_refused(
    checkpoint: Path, device_map: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        load_student(str(checkpoint), device_map=device_map)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_come_in_the_type_asked_for(checkpoint: Path, dtype: str) -> None:
    student = load_student(str(checkpoint), dtype=dtype)
    assert {str(weight.dtype) for weight in student.model.parameters()} == {f"torch.{dtype}"}


def test_a_type_that_is_none_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="int8"):
        load_student(str(checkpoint), dtype="int8")


@pytest.mark.skipif(HAS_BITSANDBYTES, reason="bitsandbytes is installed")
def test_four_bits_without_bitsandbytes_say_what_to_install(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"load_in_4bit.*pip install bitsandbytes"):
        load_student(str(checkpoint), load_in_4bit=True)


@pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not installed")
def test_four_bits_stay_near_the_full_weights_and_take_adapters(checkpoint: Path, tmp_path: Path) -> None:
    plain, small = logits(load_student(str(checkpoint))), load_student(str(checkpoint), load_in_4bit=True)
    assert 0 < (logits(small) - plain).abs().mean() < 0.5 * plain.abs().mean()
    with pytest.raises(ConfigError, match="4 bits"):
        save_official(small.model, small.family.config, None, tmp_path / "out")
    fresh = load_student(str(checkpoint), load_in_4bit=True)
    targets = fresh.family.lora_targets("all-linear")
    config = LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
    tuned = Student(get_peft_model(fresh.model, config).eval(), fresh.family)
    save_adapter_official(tuned.model, tmp_path / "adapter")
    again = load_student(str(checkpoint), load_in_4bit=True, adapter=tmp_path / "adapter")
    assert torch.equal(logits(again), logits(tuned))


def test_where_a_student_lies_and_runs_is_no_part_of_a_name() -> None:
    plain = StudentConfig(model="m")
    assert plain.result_fields() == {"family": "auto", "dtype": "float32", "load_in_4bit": False}
    assert StudentConfig(model="m", load_in_4bit=True).result_fields() != plain.result_fields()
    elsewhere = StudentConfig(model="n", revision="main", device_map={"": 0})
    assert elsewhere.result_fields() == plain.result_fields()


def test_the_checkpoint_keeps_what_its_config_json_says(checkpoint: Path) -> None:
    family = read_family(checkpoint)
    assert load_student(str(checkpoint)).family == family
    assert family.eot_id in family.end_ids
