"""The Dream family: the shift, parity with the published program, checkpoints and adapters."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.dream_checkpoint import CONFIG, write_dream
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from trims_core.errors import ConfigError
from trims_core.students import load_student, read_family, save_adapter_official, save_official


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny random Dream in the official layout."""
    return write_dream(tmp_path / "student")


def plain_qwen2(folder: Path) -> Qwen2ForCausalLM:
    """transformers' own Qwen2 with the checkpoint's weights, as any other tool would build it."""
    known = {
        name: CONFIG[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "rms_norm_eps")
    }
    sizes = {name: value for name, value in CONFIG.items() if name.startswith("num_")}
    config = Qwen2Config(**known, **sizes, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    config.is_causal = False
    model = Qwen2ForCausalLM(config)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def wrapped(model: nn.Module, targets: str | list[str]) -> PeftModel:
    peft_model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    torch.manual_seed(1)
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return peft_model


def test_logits_are_the_published_programs_moved_to_the_positions_they_predict(shared_data: Path) -> None:
    folder = shared_data / "oracles" / "dream" / "tiny_dream"
    oracle = np.load(folder / "forward.npz")
    student = load_student(str(folder))
    ids_BL = torch.from_numpy(oracle["input_ids"]).long()
    with torch.no_grad():
        aligned_BLV, raw_BLV = student.forward(ids_BL).numpy(), student.model(ids_BL).logits.numpy()
    assert np.abs(raw_BLV - oracle["logits"]).max() < 1e-4
    assert np.abs(aligned_BLV[:, 1:] - oracle["logits"][:, :-1]).max() < 1e-4
    assert np.abs(aligned_BLV[:, 0] - oracle["logits"][:, 0]).max() < 1e-4


def test_every_position_attends_to_later_ones(checkpoint: Path) -> None:
    student = load_student(str(checkpoint))
    ids_BL = torch.arange(10)[None]
    changed_BL = ids_BL.clone()
    changed_BL[0, -1] = 20
    assert (student.forward(ids_BL) - student.forward(changed_BL))[0, 0].abs().max() > 1e-4


def test_left_padding_changes_nothing_behind_the_first_token(checkpoint: Path) -> None:
    student = load_student(str(checkpoint))
    ids_BL = torch.arange(8)[None]
    padded_BL = torch.cat([torch.full((1, 3), 37), ids_BL], dim=1)
    mask_BL = torch.tensor([[0] * 3 + [1] * 8])
    padded = student.forward(padded_BL, mask_BL)[:, 4:]
    torch.testing.assert_close(padded, student.forward(ids_BL)[:, 1:], atol=1e-5, rtol=0)


def test_names_are_those_of_transformers_qwen2(checkpoint: Path) -> None:
    family = read_family(checkpoint)
    names = set(load_file(checkpoint / "model.safetensors"))
    assert names == set(plain_qwen2(checkpoint).state_dict())
    assert {family.official_name(name) for name in names} == names == {family.hf_name(n) for n in names}


def test_a_sharded_checkpoint_reads_like_a_single_file(checkpoint: Path, tmp_path: Path) -> None:
    student = load_student(str(checkpoint))
    save_official(student.model, student.family.config, None, tmp_path / "s", max_shard_bytes=10_000)
    index = json.loads((tmp_path / "s" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(load_file(checkpoint / "model.safetensors"))
    assert len(set(index["weight_map"].values())) == len(list((tmp_path / "s").glob("*.safetensors"))) > 1
    ids_BL = torch.arange(6)[None]
    assert torch.equal(load_student(str(tmp_path / "s")).forward(ids_BL), student.forward(ids_BL))


@pytest.mark.parametrize(
    ("names", "leaves"),
    [
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("mlp", {"gate_proj", "up_proj", "down_proj"}),
        (["q_proj", "mlp.down_proj"], {"q_proj", "down_proj"}),
    ],
)
def test_targets_are_found_by_meaning_and_by_name(
    checkpoint: Path, names: str | list[str], leaves: set[str]
) -> None:
    family = read_family(checkpoint)
    pattern = family.lora_targets(names)
    found = [name for name, _ in family.new_model().named_modules() if re.fullmatch(pattern, name)]
    assert len(found) == 2 * len(leaves)
    assert {name.rpartition(".")[2] for name in found} == leaves


@pytest.mark.parametrize("name", ["ff_proj", "lm_head", "embed_tokens"])
def test_a_target_that_matches_nothing_is_an_error_that_lists_what_exists(
    checkpoint: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match=rf"{name}.*dream.*gate_proj"):
        read_family(checkpoint).lora_targets(["q_proj", name])


def test_plain_peft_loads_a_saved_adapter_onto_a_plain_qwen2(checkpoint: Path, tmp_path: Path) -> None:
    student = load_student(str(checkpoint))
    tuned = wrapped(student.model, student.family.lora_targets("all-linear")).eval()
    save_adapter_official(tuned, tmp_path / "adapter")
    elsewhere = PeftModel.from_pretrained(plain_qwen2(checkpoint), str(tmp_path / "adapter")).eval()
    ids_BL = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(elsewhere(ids_BL).logits, tuned(ids_BL).logits, atol=1e-5, rtol=0)


def test_an_adapter_trained_elsewhere_gives_the_same_logits_here(checkpoint: Path, tmp_path: Path) -> None:
    elsewhere = wrapped(plain_qwen2(checkpoint), ["q_proj", "v_proj", "down_proj"]).eval()
    elsewhere.save_pretrained(str(tmp_path / "adapter"))
    here = load_student(str(checkpoint), adapter=tmp_path / "adapter")
    ids_BL = torch.arange(12)[None]
    with torch.no_grad():
        raw_BLV = elsewhere(ids_BL).logits
        torch.testing.assert_close(here.forward(ids_BL), here.family.align(raw_BLV), atol=1e-5, rtol=0)


def test_an_adapter_comes_back_with_the_same_logits(checkpoint: Path, tmp_path: Path) -> None:
    student = load_student(str(checkpoint))
    ids_BL = torch.arange(12)[None]
    plain = student.forward(ids_BL)
    targets = student.family.lora_targets(["attention", "up_proj"])
    tuned = dataclasses.replace(student, model=wrapped(student.model, targets).eval())
    save_adapter_official(tuned.model, tmp_path / "adapter")
    again = load_student(str(checkpoint), adapter=tmp_path / "adapter")
    assert torch.equal(again.forward(ids_BL), tuned.forward(ids_BL))
    assert not torch.allclose(again.forward(ids_BL), plain)


def test_the_family_may_be_named_where_config_json_says_something_else(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps({**CONFIG, "model_type": "qwen2"}))
    with pytest.raises(ConfigError, match=r"qwen2.*dream, llada"):
        read_family(checkpoint)
    assert read_family(checkpoint, "dream").mask_id == 38


def test_an_architecture_that_is_not_dreams_is_refused(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps({**CONFIG, "use_sliding_window": True}))
    with pytest.raises(ConfigError, match="use_sliding_window"):
        read_family(checkpoint)
