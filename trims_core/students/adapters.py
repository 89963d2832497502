"""LoRA adapters under the official module names, so that plain PEFT loads them onto the published
checkpoint.

Inside, a student is a Hugging Face module with Hugging Face names; what is saved carries the names every
other tool sees.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from trims_core.errors import ConfigError
from trims_core.students.family import Family

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"

_LORA_WEIGHT: Final = re.compile(r"base_model\.model\.(?P<module>.+?)\.lora_\w+(?:\..+)?")
_NOT_READ: Final = ("rank_pattern", "alpha_pattern", "modules_to_save", "target_parameters")
# these train the difference to base weights that PEFT changes while it wraps them
_CHANGES_THE_BASE: Final = ("pissa", "olora", "corda", "loftq", "lora_ga")


def save_adapter_official(peft_model: PeftModel, out_dir: Path, *, base: str | None = None) -> None:
    """Writes adapter_config.json and adapter_model.safetensors with official module names.

    Args:
        peft_model: LoRA around a student's module.
        base: what the adapter's config calls the checkpoint it belongs to; default: nothing.
    """
    described: Family = peft_model.get_base_model().student_family
    state = {
        described.official_name(name): tensor.detach().cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(peft_model, save_embedding_layers=False).items()
    }
    config = copy.deepcopy(peft_model.peft_config[peft_model.active_adapter])
    config.target_modules = described.official_targets_of(_wrapped_modules(state, str(out_dir)))
    config.inference_mode = True
    config.base_model_name_or_path = base
    out_dir.mkdir(parents=True, exist_ok=True)
    save_file(state, str(out_dir / WEIGHTS_NAME), metadata={"format": "pt"})
    config.save_pretrained(str(out_dir))


def load_adapter_official(model: Any, adapter_dir: Path) -> PeftModel:
    """The module wrapped with an adapter that was saved under official names, every weight of it used.

    What is wrapped follows from the weights, not from the names that training asked for: on LLaDA the names
    of Llama's modules (q, k, v, o, gate, up, down_proj) wrapped only four of seven, and PEFT did not say so.

    Raises:
        ConfigError: files are missing, it is no LoRA adapter, or it does not fit the student.
    """
    described: Family = model.student_family
    config = _read_config(adapter_dir)
    official = load_file(str(adapter_dir / WEIGHTS_NAME))
    config.target_modules = [described.hf_name(name) for name in _wrapped_modules(official, str(adapter_dir))]
    config.layers_to_transform = config.layers_pattern = config.exclude_modules = None
    config.base_model_name_or_path = None  # a name for people; PEFT would warn that this module has none
    state = {described.hf_name(name): tensor for name, tensor in official.items()}
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
    odd = [f"{key} = {raw[key]!r}" for key in _NOT_READ if raw.get(key)]
    if raw.get("bias", "none") != "none":
        odd.append(f"bias = {raw['bias']!r}")
    if str(raw.get("init_lora_weights")).startswith(_CHANGES_THE_BASE):
        odd.append(f"init_lora_weights = {raw['init_lora_weights']!r}")
    if odd:
        raise ConfigError(f"{adapter_dir}: {', '.join(odd)}; only plain LoRA adapters are read")
    return LoraConfig.from_pretrained(str(adapter_dir))


def _wrapped_modules(weight_names: Iterable[str], source: str) -> list[str]:
    """Sorted names of the modules that these LoRA weights belong to."""
    modules = set()
    for name in weight_names:
        match = _LORA_WEIGHT.fullmatch(name)
        if match is None:
            raise ConfigError(
                f"{source}: {name} is no weight of a LoRA adapter; expected base_model.model.<module>.lora_…"
            )
        modules.add(match["module"])
    if not modules:
        raise ConfigError(f"{source}: the adapter holds no weights; expected those of a LoRA adapter")
    return sorted(modules)
