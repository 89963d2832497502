"""What an adapter_config.json may say. What changes an adapter's arithmetic is read or refused by name.

PEFT drops keys that it does not know with a warning, and takes defaults for those that are absent; its kinds
of LoRA need more than the two matrices. Nothing of that happens here unsaid.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from trims_core.block_causal import BLOCK_CAUSAL
from trims_core.errors import ConfigError
from trims_core.paths import located
from trims_core.students.config_json import COUNT, FLAG, Kind, is_number
from trims_core.text_files import object_of

ADAPTER_CONFIG_NAME: Final = "adapter_config.json"
ADAPTER_WEIGHTS_NAME: Final = "adapter_model.safetensors"

_FACTOR: Final = Kind("a number that is not 0", lambda value: is_number(value) and value != 0)
_REQUIRED: Final = {"r": COUNT, "lora_alpha": _FACTOR}
_READ: Final = {"use_rslora": FLAG, "use_dora": FLAG, BLOCK_CAUSAL: COUNT}
_HARMLESS: Final = frozenset(
    {
        # names and where it came from
        *("peft_type", "task_type", "base_model_name_or_path", "revision", "peft_version", "auto_mapping"),
        *("inference_mode", "megatron_core", "runtime_config"),
        # which modules: the weights say it
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        # training alone, or how weights began
        *(
            "lora_dropout",
            "loftq_config",
            "eva_config",
            "corda_config",
            "lora_ga_config",
            "qalora_group_size",
        ),
        # nn.Linear stores its weights one way
        "fan_in_fan_out",
    }
)
_STARTS: Final = (None, True, False, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights after which an adapter is the two matrices alone; others (pissa, olora, corda,
loftq, lora_ga) change the base weights too."""
_ON_IF_EMPTY: Final = ("alora_invocation_tokens", "velora_config", "arrow_config", "kasa_config")
"""PEFT takes any value but null for a wish."""


def read_adapter_config(path: Path) -> dict[str, Any]:
    """The settings of LoRA that an adapter's arithmetic needs, for `LoraConfig`; and `block_causal_length` of
    one that was trained under block-causal attention, which PEFT does not know.

    Raises:
        ConfigError: no such file, a damaged one, or a kind of adapter that would be inert or wrong here.
    """
    if not path.exists() and (path.parent / "config.json").is_file():
        raise ConfigError(
            f"{located(path.parent)}: holds a whole checkpoint; expected a PEFT adapter. Name this folder in"
            " place of the student, without an adapter"
        )
    raw = object_of(path, "a PEFT adapter's adapter_config.json")
    if raw.get("peft_type") != "LORA":
        raise ConfigError(f"{path}: peft_type is {raw.get('peft_type')!r}; expected LORA")
    typed = {**_REQUIRED, **_READ}
    wrong = [f"{key} missing or null" for key in _REQUIRED if raw.get(key) is None]
    wrong += [
        f"{key} = {raw[key]!r} (expected {kind.expected})"
        for key, kind in typed.items()
        if raw.get(key) is not None and not kind.fits(raw[key])
    ]
    if wrong:
        raise ConfigError(f"{path}: {'; '.join(wrong)}. Expected the settings that it was trained with")
    odd = _not_read(raw)
    if odd:
        raise ConfigError(
            f"{path}: {', '.join(odd)}: this kind of adapter is not read; expected LoRA, rsLoRA or DoRA."
            " Merge it with the tool that trained it, and load the merged checkpoint"
        )
    return {key: raw[key] for key in typed if raw.get(key) is not None} | {"inference_mode": True}


def _not_read(raw: Mapping[str, Any]) -> list[str]:
    """Settings beyond those that are read and those that change nothing; off (null, false, empty) is fine."""
    may_be = {"bias": (None, "none"), "init_lora_weights": _STARTS}
    known = {*_REQUIRED, *_READ, *_HARMLESS, *may_be}
    found = [key for key, value in raw.items() if key not in known and value]
    found += [key for key in _ON_IF_EMPTY if key not in found and raw.get(key) is not None]
    found += [key for key, allowed in may_be.items() if raw.get(key) not in allowed]
    return [f"{key} = {str(raw[key])[:60]!r}" for key in found]
