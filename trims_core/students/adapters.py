"""LoRA adapters under the official module names, so that plain PEFT loads them onto the published
checkpoint.

Inside, a student is a Hugging Face module with Hugging Face names; what is saved carries the names every
other tool sees.

Covered: LoRA, rsLoRA and DoRA on linear modules, the head and the embedding. Not covered, and refused by
name: every other setting of PEFT that changes what an adapter computes (adapter_config.py).
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from trims_core.block_causal import BLOCK_CAUSAL
from trims_core.errors import ConfigError
from trims_core.paths import located
from trims_core.students.adapter_config import ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAME, read_adapter_config
from trims_core.students.family import Family
from trims_core.students.tensor_files import is_wide_float, read_tensors, write_tensors
from trims_core.text_files import DAMAGED

_LORA_WEIGHT: Final = re.compile(r"base_model\.model\.(?P<module>.+?)\.lora_\w+(?:\..+)?")
_BASE_WEIGHT: Final = re.compile(r"base_model\.model\.(?P<module>.+)\.base_layer\.weight")
_TIED: Final = ("model.embed_tokens", "lm_head")


def save_adapter_official(
    peft_model: PeftModel,
    out_dir: Path,
    *,
    base: str | None = None,
    block_causal_length: int | None = None,
) -> None:
    """Writes adapter_config.json and adapter_model.safetensors with official module names.

    Args:
        peft_model: LoRA around a student's module.
        base: what the adapter's config calls the checkpoint it belongs to; default: nothing.
        block_causal_length: of the attention that it was trained under; default: what it was loaded with.
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
    write_tensors(state, out_dir / ADAPTER_WEIGHTS_NAME)
    config.save_pretrained(str(out_dir))
    length = block_causal_length or described.block_causal_length
    if length is not None:
        # other programs attend in both directions: PEFT warns of the key, and this one obeys it
        path = out_dir / ADAPTER_CONFIG_NAME
        said = {**json.loads(path.read_text(encoding="utf-8")), BLOCK_CAUSAL: length}
        path.write_text(json.dumps(said, indent=2, sort_keys=True), encoding="utf-8")


def load_adapter_official(model: Any, adapter_dir: Path) -> PeftModel:
    """The module wrapped with an adapter that was saved under official names, every weight of it used.

    What is wrapped follows from the weights, not from the names that training asked for: on LLaDA the names
    of Llama's modules (q, k, v, o, gate, up, down_proj) wrapped only four of seven, and PEFT did not say so.
    The attention that it was trained under becomes that of `model.student_family`.

    Raises:
        ConfigError: files are missing or damaged, it is no LoRA adapter or one of a kind that is not read, or
            it does not fit the student.
    """
    described: Family = model.student_family
    settings = read_adapter_config(adapter_dir / ADAPTER_CONFIG_NAME)
    length = settings.pop(BLOCK_CAUSAL, None)
    _refuse_other_attention(described, length, adapter_dir)
    config = LoraConfig(**settings)
    weights_file = adapter_dir / ADAPTER_WEIGHTS_NAME
    official = _without_base_copies(model, read_tensors(weights_file), weights_file)
    modules = _wrapped_modules(official, str(weights_file))
    odd = [name for name, tensor in official.items() if not is_wide_float(tensor)]
    if odd:
        dtype = str(official[odd[0]].dtype).removeprefix("torch.")
        raise ConfigError(
            f"{weights_file}: {odd[0]} is of type {dtype}; expected 16 bits or more of floating"
            f" point. {DAMAGED}"
        )
    broken = [name for name, tensor in official.items() if not tensor.isfinite().all()]
    if broken:
        raise ConfigError(
            f"{weights_file}: {len(broken)} weights are not finite, e.g. {broken[0]}; expected numbers."
            f" {DAMAGED}, or train again"
        )
    state = {_name_inside(described, name, weights_file): tensor for name, tensor in official.items()}
    config.target_modules = [_name_inside(described, name, weights_file) for name in modules]
    _refuse_tied(model, config.target_modules, weights_file)
    wrapped = _wrap(model, config, weights_file)
    expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    unfit = sorted(set(expected) ^ set(state)) or [
        name for name, tensor in expected.items() if tensor.shape != state[name].shape
    ]
    if unfit:
        raise ConfigError(
            f"{adapter_dir}: the adapter does not fit this student ({len(unfit)} weights absent or of another"
            f" shape, e.g. {described.official_name(unfit[0])}); expected an adapter of the same"
            " checkpoint, and the rank that its weights have"
        )
    set_peft_model_state_dict(wrapped, state)
    model.student_family = described.attending_in_blocks(length)
    return wrapped


def _refuse_other_attention(family: Family, length: int | None, adapter_dir: Path) -> None:
    """Raises ConfigError on a block-causal student for an adapter that was trained otherwise."""
    own = family.block_causal_length
    if own is not None and own != length:
        trained = "in both directions" if length is None else f"in blocks of {length}"
        raise ConfigError(
            f"{located(adapter_dir)}: was trained under attention {trained}; the student attends in"
            f" blocks of {own} ({BLOCK_CAUSAL} in its config.json). Expected an adapter of this student"
        )


def _without_base_copies(model: Any, tensors: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Without the weights of head and embedding that PEFT stores beside their adapters.

    Raises:
        ConfigError: they are not this student's.
    """
    copies = {name: match["module"] for name in tensors if (match := _BASE_WEIGHT.fullmatch(name))}
    for name, module in copies.items():
        own = model.get_submodule(_name_inside(model.student_family, module, source)).weight
        if not torch.equal(tensors[name].to(own), own):
            raise ConfigError(
                f"{source}: {name} differs from this student's weight; expected an adapter of the same"
                " checkpoint"
            )
    return {name: tensor for name, tensor in tensors.items() if name not in copies}


def _wrap(model: Any, config: LoraConfig, source: Path) -> PeftModel:
    try:
        return get_peft_model(model, config)
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise ConfigError(
            f"{source}: PEFT cannot wrap this student with it ({error}); expected a LoRA adapter of the same"
            " checkpoint"
        ) from error


def _name_inside(family: Family, official: str, source: Path) -> str:
    try:
        return family.hf_name(official)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _refuse_tied(model: Any, modules: Iterable[str], source: Path) -> None:
    """Raises ConfigError for an adapter on one side of a tied pair: merging it would change both."""
    on_tied = [name for name in modules if name in _TIED]
    if on_tied and model.config.tie_word_embeddings:
        described: Family = model.student_family
        raise ConfigError(
            f"{source}: wraps {described.official_name(on_tied[0])}, whose weights this student shares"
            " between embedding and head; expected an adapter of other modules"
        )


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
