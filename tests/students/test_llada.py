"""The LLaDA family: names, targets, parity with the published program, checkpoints and adapters."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn

from trims_core.errors import ConfigError
from trims_core.students import (
    Student,
    load_adapter_official,
    load_student,
    read_family,
    save_adapter_official,
    save_official,
)

CONFIG = {
    "architectures": ["LLaDAModelLM"],
    "model_type": "llada",
    "d_model": 32,
    "n_heads": 4,
    "n_kv_heads": 2,
    "n_layers": 2,
    "mlp_hidden_size": 48,
    "vocab_size": 40,
    "embedding_size": 48,
    "max_sequence_length": 64,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "weight_tying": False,
    "mask_token_id": 38,
    "eos_token_id": 37,
    "pad_token_id": 37,
}


class OfficialBlock(nn.Module):
    """A bare module tree with LLaDA's published module names; the forward is of no interest here."""

    def __init__(self, d: int, kv: int, mlp: int) -> None:
        super().__init__()
        self.attn_norm = nn.RMSNorm(d)
        self.ff_norm = nn.RMSNorm(d)
        self.q_proj = nn.Linear(d, d, bias=False)
        self.k_proj = nn.Linear(d, kv, bias=False)
        self.v_proj = nn.Linear(d, kv, bias=False)
        self.attn_out = nn.Linear(d, d, bias=False)
        self.ff_proj = nn.Linear(d, mlp, bias=False)
        self.up_proj = nn.Linear(d, mlp, bias=False)
        self.ff_out = nn.Linear(mlp, d, bias=False)


class OfficialTree(nn.Module):
    """`model.transformer.{wte,blocks,ln_f,ff_out}` as in the published code."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(48, 32),
                "blocks": nn.ModuleList([OfficialBlock(32, 16, 48) for _ in range(2)]),
                "ln_f": nn.RMSNorm(32),
                "ff_out": nn.Linear(32, 48, bias=False),
            }
        )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny random checkpoint in the official layout."""
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    family = read_family(folder)
    torch.manual_seed(0)
    save_official(family.new_model(), CONFIG, None, folder)
    return folder


def small_lora(student: Student, targets: str | list[str] = "all-linear") -> PeftModel:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=student.family.lora_targets(targets))
    peft_model = get_peft_model(student.model, config)
    torch.manual_seed(1)
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return peft_model


@pytest.mark.parametrize("which", ["tiny_mha", "tiny_gqa"])
def test_logits_equal_those_of_the_published_program(shared_data: Path, which: str) -> None:
    folder = shared_data / "oracles" / "llada" / which
    oracle = np.load(folder / "forward.npz")
    student = load_student(str(folder))
    with torch.no_grad():
        logits_BLV = student.forward(torch.from_numpy(oracle["input_ids"]).long())
    assert np.abs(logits_BLV.numpy() - oracle["logits"]).max() < 1e-4


def test_every_position_attends_to_later_ones(checkpoint: Path) -> None:
    student = load_student(str(checkpoint))
    ids_BL = torch.arange(10)[None]
    changed_BL = ids_BL.clone()
    changed_BL[0, -1] = 20
    difference = (student.forward(ids_BL) - student.forward(changed_BL))[0, 0].abs().max()
    assert difference > 1e-4


def test_left_padding_changes_nothing(checkpoint: Path) -> None:
    student = load_student(str(checkpoint))
    ids_BL = torch.arange(8)[None]
    padded_BL = torch.cat([torch.full((1, 3), 37), ids_BL], dim=1)
    mask_BL = torch.tensor([[0] * 3 + [1] * 8])
    padded = student.forward(padded_BL, mask_BL)[:, 3:]
    torch.testing.assert_close(padded, student.forward(ids_BL), atol=1e-5, rtol=0)


def test_saved_and_reloaded_weights_are_equal_byte_for_byte(checkpoint: Path, tmp_path: Path) -> None:
    student = load_student(str(checkpoint), dtype="auto")
    save_official(student.model, student.family.config, None, tmp_path / "again")
    first = (checkpoint / "model.safetensors").read_bytes()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == first
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == CONFIG


def test_a_sharded_checkpoint_reads_like_a_single_file(checkpoint: Path, tmp_path: Path) -> None:
    student = load_student(str(checkpoint))
    sharded = tmp_path / "sharded"
    save_official(student.model, student.family.config, None, sharded, max_shard_bytes=10_000)
    assert len(list(sharded.glob("model-*.safetensors"))) > 1
    ids_BL = torch.arange(6)[None]
    again = load_student(str(sharded))
    assert torch.equal(again.forward(ids_BL), student.forward(ids_BL))


def test_a_missing_shard_is_named(checkpoint: Path, tmp_path: Path) -> None:
    student = load_student(str(checkpoint))
    save_official(student.model, student.family.config, None, tmp_path / "s", max_shard_bytes=10_000)
    lost = sorted((tmp_path / "s").glob("model-*.safetensors"))[0]
    lost.unlink()
    with pytest.raises(ConfigError, match=re.escape(lost.name)):
        load_student(str(tmp_path / "s"))


def test_incomplete_weights_are_refused(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps({**CONFIG, "n_layers": 3}))
    with pytest.raises(ConfigError, match=r"blocks\.2\."):
        load_student(str(checkpoint))


def test_bfloat16_weights_can_be_used_as_float32(checkpoint: Path, tmp_path: Path) -> None:
    student = load_student(str(checkpoint), dtype="bfloat16")
    save_official(student.model, student.family.config, None, tmp_path / "half")
    assert load_student(str(tmp_path / "half"), dtype="auto").model.dtype == torch.bfloat16
    assert load_student(str(tmp_path / "half")).model.dtype == torch.float32


def test_names_map_both_ways(checkpoint: Path) -> None:
    family = read_family(checkpoint)
    model = family.new_model()
    for name in model.state_dict():
        assert family.hf_name(family.official_name(name)) == name
    assert family.official_name("lm_head.weight") == "model.transformer.ff_out.weight"
    assert family.official_name("model.layers.1.mlp.down_proj") == "model.transformer.blocks.1.ff_out"
    prefixed = "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight"
    assert (
        family.official_name(prefixed) == "base_model.model.model.transformer.blocks.0.attn_out.lora_A.weight"
    )
    with pytest.raises(ConfigError):
        family.hf_name("model.transformer.wpe.weight")


def matched(pattern: str, module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_modules() if re.fullmatch(pattern, name)}


def test_all_linear_targets_are_seven_per_layer_without_the_head(checkpoint: Path) -> None:
    family = read_family(checkpoint)
    found = matched(family.lora_targets("all-linear"), family.new_model())
    assert len(found) == 14
    assert "lm_head" not in found
    official = family.official_targets_of([family.official_name(name) for name in found])
    assert isinstance(official, str)
    assert matched(official, OfficialTree()) == {family.official_name(name) for name in found}


@pytest.mark.parametrize(
    ("names", "leaves"),
    [
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("mlp", {"gate_proj", "up_proj", "down_proj"}),
        (["q_proj", "attn_out"], {"q_proj", "o_proj"}),
        (["gate_proj", "ff_out"], {"gate_proj", "down_proj"}),
    ],
)
def test_targets_take_official_and_hugging_face_names(
    checkpoint: Path, names: str | list[str], leaves: set[str]
) -> None:
    family = read_family(checkpoint)
    found = matched(family.lora_targets(names), family.new_model())
    assert {name.rpartition(".")[2] for name in found} == leaves


@pytest.mark.parametrize("name", ["c_attn", "lm_head", "model.transformer.ff_out"])
def test_a_target_that_matches_nothing_is_an_error_that_lists_what_exists(
    checkpoint: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="ff_proj") as caught:
        read_family(checkpoint).lora_targets(["q_proj", name])
    assert name in str(caught.value)


def test_an_unknown_family_is_an_error_that_says_what_is_known(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps({**CONFIG, "model_type": "gpt2"}))
    with pytest.raises(ConfigError, match=r"gpt2.*llada"):
        read_family(checkpoint)


def test_an_architecture_that_is_not_llada_is_refused(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps({**CONFIG, "alibi": True}))
    with pytest.raises(ConfigError, match="alibi"):
        read_family(checkpoint)


def test_a_family_knows_the_published_ids_from_the_tokenizer_files(shared_data: Path, tmp_path: Path) -> None:
    published = shared_data / "data" / "tokenizers" / "llada" / "tokenizer_config.json"
    (tmp_path / "tokenizer_config.json").write_bytes(published.read_bytes())
    big = {
        **CONFIG,
        "mask_token_id": 126336,
        "eos_token_id": 126081,
        "vocab_size": 126464,
        "embedding_size": 126464,
    }
    (tmp_path / "config.json").write_text(json.dumps(big))
    family = read_family(tmp_path)
    assert (family.mask_id, family.eot_id) == (126336, 126348)
    assert family.end_ids == {126081, 126348}


def test_plain_peft_loads_a_saved_adapter_onto_the_official_module_names(
    checkpoint: Path, tmp_path: Path
) -> None:
    student = load_student(str(checkpoint))
    save_adapter_official(small_lora(student), tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    loaded = PeftModel.from_pretrained(OfficialTree(), str(tmp_path / "adapter"))
    lora = {n.replace(".default", ""): p for n, p in loaded.named_parameters() if "lora_" in n}
    assert set(lora) == set(saved)
    assert len(saved) == 2 * 14
    assert all(torch.equal(lora[name], saved[name]) for name in saved)
    assert isinstance(loaded.base_model.model.model.transformer["ff_out"], nn.Linear)


def test_an_adapter_comes_back_with_the_same_logits(checkpoint: Path, tmp_path: Path) -> None:
    student = load_student(str(checkpoint))
    ids_BL = torch.arange(12)[None]
    plain = student.forward(ids_BL)
    tuned = dataclasses.replace(student, model=small_lora(student, ["q_proj", "ff_out"]).eval())
    save_adapter_official(tuned.model, tmp_path / "adapter")
    again = load_student(str(checkpoint), adapter=tmp_path / "adapter")
    assert torch.equal(again.forward(ids_BL), tuned.forward(ids_BL))
    assert not torch.allclose(again.forward(ids_BL), plain)


LLAMA_NAMES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize(
    ("targets", "leaves", "n_modules"),
    [
        (LLAMA_NAMES, {"q_proj", "k_proj", "v_proj", "up_proj"}, 8),  # all that these names match
        (["blocks.1.ff_out", "blocks.0.q_proj"], {"ff_out", "q_proj"}, 2),
        (["transformer.ff_out"], {"ff_out"}, 1),  # the head
    ],
)
def test_an_adapter_trained_elsewhere_is_read_as_far_as_it_was_wrapped(
    checkpoint: Path, tmp_path: Path, targets: list[str], leaves: set[str], n_modules: int
) -> None:
    torch.manual_seed(2)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False)
    elsewhere = get_peft_model(OfficialTree(), config)
    elsewhere.save_pretrained(str(tmp_path / "elsewhere"))
    saved = load_file(tmp_path / "elsewhere" / "adapter_model.safetensors")
    student = load_student(str(checkpoint), adapter=tmp_path / "elsewhere")
    changed = student.model.merge_and_unload().state_dict()
    plain = load_student(str(checkpoint)).model.state_dict()
    modules = {name.removesuffix(".lora_A.weight") for name in saved if "lora_A" in name}
    assert len(modules) == n_modules
    assert {name.rpartition(".")[2] for name in modules} == leaves
    by_hand = {}
    for module in modules:
        product = saved[f"{module}.lora_B.weight"] @ saved[f"{module}.lora_A.weight"] * 2.0
        name = student.family.hf_name(f"{module.removeprefix('base_model.model.')}.weight")
        by_hand[name] = plain[name] + product
    for name, weight in plain.items():
        torch.testing.assert_close(changed[name], by_hand.get(name, weight))


def test_a_partly_wrapped_adapter_is_saved_as_far_as_it_was_wrapped(checkpoint: Path, tmp_path: Path) -> None:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["blocks.1.ff_out"], init_lora_weights=False)
    get_peft_model(OfficialTree(), config).save_pretrained(str(tmp_path / "elsewhere"))
    here = load_student(str(checkpoint), adapter=tmp_path / "elsewhere")
    save_adapter_official(here.model, tmp_path / "again")
    first, again = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("elsewhere", "again"))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    loaded = PeftModel.from_pretrained(OfficialTree(), str(tmp_path / "again"))
    assert len([name for name, _ in loaded.named_parameters() if "lora_A" in name]) == 1


@pytest.mark.parametrize(
    "change",
    [{"peft_type": "IA3"}, {"bias": "all"}, {"rank_pattern": {"q_proj": 2}}, {"init_lora_weights": "pissa"}],
)
def test_an_adapter_of_a_kind_that_is_not_read_is_refused(
    checkpoint: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    save_adapter_official(small_lora(load_student(str(checkpoint))), tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=next(iter(change))):
        load_student(str(checkpoint), adapter=tmp_path / "adapter")


def test_an_adapter_of_another_student_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    save_adapter_official(small_lora(load_student(str(checkpoint))), tmp_path / "adapter")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({**CONFIG, "d_model": 64}))
    family = read_family(tmp_path / "other")
    with pytest.raises(ConfigError, match="does not fit"):
        load_adapter_official(family.new_model(), tmp_path / "adapter")


def test_reading_a_family_imports_no_torch(checkpoint: Path) -> None:
    code = (
        "import sys; from trims_core.students import read_family; "
        f"read_family({str(checkpoint)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
