"""Adapters of every kind: computed as PEFT computes them, or refused by name before anything is decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.dream_checkpoint import write_dream
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from flows.cli import app
from trims_core.errors import ConfigError
from trims_core.students import load_student, merge_adapter, save_adapter_official

IDS_BL = torch.arange(24)[None]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dream(tmp_path_factory.mktemp("dream"), with_tokenizer=True)


def tuned(student: Path, **settings: Any) -> Any:
    """A student's module with an adapter of this kind, far from zero."""
    torch.manual_seed(5)
    config = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]} | settings
    model = get_peft_model(load_student(str(student)).model, LoraConfig(**config))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.add_(torch.randn(weight.shape) * 0.2)
    return model.eval()


@pytest.fixture
def adapter(student: Path, tmp_path: Path) -> Path:
    save_adapter_official(tuned(student), tmp_path / "adapter", base="org/dream")
    return tmp_path / "adapter"


def change(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not ...}))


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"lora_dropout": 0.5},
        {"init_lora_weights": "gaussian"},
        {"target_modules": ["lm_head", "v_proj"]},
        {"target_modules": ["embed_tokens"]},
    ],
    ids=str,
)
def test_kinds_that_are_read_compute_what_peft_does_apart_and_merged(
    student: Path, tmp_path: Path, kind: dict[str, Any]
) -> None:
    elsewhere = tuned(student, **kind)
    elsewhere.save_pretrained(str(tmp_path / "a"))
    here = load_student(str(student), adapter=tmp_path / "a")
    with torch.no_grad():
        wanted = here.family.align(elsewhere(IDS_BL).logits)
        torch.testing.assert_close(here.forward(IDS_BL), wanted, atol=1e-4, rtol=0)
        assert not merge_adapter(here).apart
        torch.testing.assert_close(here.forward(IDS_BL), wanted, atol=1e-3, rtol=0)
        assert (load_student(str(student)).forward(IDS_BL) - wanted).abs().max() > 0.1


REFUSED: list[dict[str, Any]] = [
    {"alora_invocation_tokens": [1, 2]},
    {"alora_invocation_tokens": []},
    {"lora_bias": True},
    {"bias": "lora_only"},
    {"modules_to_save": ["lm_head"]},
    {"trainable_token_indices": [1]},
    {"target_parameters": ["mlp.down_proj.weight"]},
    {"layer_replication": [[0, 2], [1, 2]]},
    {"rank_pattern": {"q_proj": 2}},
    {"alpha_pattern": {"q_proj": 2}},
    {"use_qalora": True},
    {"use_bdlora": {"nblocks": 2}},
    {"velora_config": {}},
    {"monteclora_config": {"num_samples": 2}},
    {"arrow_config": {"top_k": 1}},
    {"kasa_config": {"beta": 1e-4}},
    {"megatron_config": {"a": 1}},
    {"init_lora_weights": "pissa_niter_4"},
    {"init_lora_weights": "olora"},
    {"init_lora_weights": "mica"},
    {"a_kind_of_next_year": 0.5},
    {"peft_type": "IA3"},
    {"peft_type": None},
    {"lora_alpha": None},
    {"lora_alpha": 0},
    {"lora_alpha": "16"},
    {"lora_alpha": 10**400},
    {"r": "4"},
    {"r": ...},
    {"use_rslora": "yes"},
]


@pytest.mark.parametrize("kind", REFUSED, ids=str)
def test_kinds_that_would_be_inert_or_wrong_are_refused_by_name(
    student: Path, adapter: Path, kind: dict[str, Any]
) -> None:
    change(adapter, **kind)
    with pytest.raises(ConfigError, match=rf"adapter_config\.json: .*{next(iter(kind))}"):
        load_student(str(student), adapter=adapter)


def test_the_command_refuses_them_without_a_traceback(student: Path, adapter: Path) -> None:
    change(adapter, alora_invocation_tokens=[1])
    found = CliRunner().invoke(app, ["generate", str(student), "--adapter", str(adapter), "--prompt", "hi"])
    assert found.exit_code == 2
    assert "alora_invocation_tokens" in found.output


@pytest.mark.parametrize("content", ["{", "[]", '{"peft_type": "LO'])
def test_a_damaged_adapter_config_is_named(student: Path, adapter: Path, content: str) -> None:
    (adapter / "adapter_config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"adapter_config\.json: .*Running again will not help"):
        load_student(str(student), adapter=adapter)


@pytest.mark.parametrize("dtype", [torch.int32, torch.float8_e4m3fn, torch.bool, torch.complex64], ids=str)
def test_adapter_weights_that_are_no_wide_floats_are_refused(
    student: Path, adapter: Path, dtype: torch.dtype
) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path)
    with pytest.raises(ConfigError, match=r"adapter_model\.safetensors: .*expected 16 bits or more"):
        load_student(str(student), adapter=adapter)


@pytest.mark.parametrize("damage", ["cut", "pointer", "nan"])
def test_damaged_adapter_weights_are_named(student: Path, adapter: Path, damage: str) -> None:
    path = adapter / "adapter_model.safetensors"
    if damage == "nan":
        tensors = load_file(path)
        next(iter(tensors.values()))[0, 0] = torch.nan
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
    else:
        pointer = b"version https://git-lfs.github.com/spec/v1\n"
        path.write_bytes(path.read_bytes()[:-100] if damage == "cut" else pointer)
    with pytest.raises(ConfigError, match=r"adapter_model\.safetensors: .*unning again will not help"):
        load_student(str(student), adapter=adapter)


def test_an_adapter_of_another_rank_is_refused(student: Path, adapter: Path) -> None:
    change(adapter, r=8)
    with pytest.raises(ConfigError, match="does not fit"):
        load_student(str(student), adapter=adapter)


def test_an_adapter_of_a_tied_or_another_head_is_refused(student: Path, tmp_path: Path) -> None:
    tuned(student, target_modules=["lm_head"]).save_pretrained(str(tmp_path / "head"))
    other = write_dream(tmp_path / "tied", seed=1, with_tokenizer=True)
    with pytest.raises(ConfigError, match=r"lm_head\.base_layer\.weight differs from this student's weight"):
        load_student(str(other), adapter=tmp_path / "head")
    config = json.loads((student / "config.json").read_text())
    weights = load_file(student / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights["lm_head.weight"].clone()
    save_file(weights, other / "model.safetensors")
    (other / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    with pytest.raises(ConfigError, match="lm_head, whose weights this student shares"):
        load_student(str(other), adapter=tmp_path / "head")


def test_a_saved_adapter_names_its_base(adapter: Path) -> None:
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/dream"
