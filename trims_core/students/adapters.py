"""LoRA adapters under the official module names, so that plain PEFT loads them onto the published
checkpoint.

Inside, a student is a Hugging Face module with Hugging Face names; what is saved carries the names every
other tool sees.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from trims_core.errors import ConfigError
from trims_core.students.family import Family

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"


def save_adapter_official(peft_model: PeftModel, out_dir: Path, family: Family | None = None) -> None:
    """Writes adapter_config.json and adapter_model.safetensors with official module names.

    Args:
        peft_model: LoRA around a student's module.
        family: only needed for a module that `load_student` did not load.
    """
    described = family or peft_model.get_base_model().student_family
    state = {
        described.official_name(name): tensor.detach().cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(peft_model, save_embedding_layers=False).items()
    }
    config = copy.deepcopy(peft_model.peft_config[peft_model.active_adapter])
    config.target_modules = described.official_lora_targets(_leaves(state, described))
    config.inference_mode = True
    out_dir.mkdir(parents=True, exist_ok=True)
    save_file(state, str(out_dir / WEIGHTS_NAME), metadata={"format": "pt"})
    config.save_pretrained(str(out_dir))


def load_adapter_official(model: Any, adapter_dir: Path, family: Family | None = None) -> PeftModel:
    """The module wrapped with an adapter that was saved under official names, every weight of it used.

    Raises:
        ConfigError: files are missing, it is no LoRA adapter, or it does not fit the student.
    """
    described = family or model.student_family
    config = _read_config(adapter_dir)
    official = load_file(str(adapter_dir / WEIGHTS_NAME))
    state = {described.hf_name(name): tensor for name, tensor in official.items()}
    config.target_modules = described.lora_targets(_leaves(official, described))
    wrapped = get_peft_model(model, config)
    expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    unfit = sorted(set(expected) ^ set(state)) or [
        name for name, tensor in expected.items() if tensor.shape != state[name].shape
    ]
    if unfit:
        raise ConfigError(
            f"{adapter_dir}: the adapter does not fit this student ({len(unfit)} weights absent or of another"
            f" shape, e.g. {described.official_name(unfit[0])}); expected an adapter of the same checkpoint"
        )
    set_peft_model_state_dict(wrapped, state)
    return wrapped


def _read_config(adapter_dir: Path) -> LoraConfig:
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (adapter_dir / name).is_file():
            raise ConfigError(f"{adapter_dir / name}: no such file; expected a PEFT adapter folder")
    raw = json.loads((adapter_dir / CONFIG_NAME).read_text(encoding="utf-8"))
    if raw.get("peft_type") != "LORA":
        raise ConfigError(f"{adapter_dir}: peft_type is {raw.get('peft_type')!r}; expected LORA")
    patterned = [key for key in ("rank_pattern", "alpha_pattern", "modules_to_save") if raw.get(key)]
    if patterned:
        raise ConfigError(f"{adapter_dir}: {', '.join(patterned)} set; only plain LoRA adapters are read")
    return LoraConfig.from_pretrained(str(adapter_dir))


def _leaves(official_names: Any, family: Family) -> list[str]:
    """Official leaf names of the linear modules that these LoRA weights belong to."""
    parts = {part for name in official_names for part in name.split(".")}
    return [leaf for leaf in family.linear_leaves if leaf in parts]
