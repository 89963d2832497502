"""What of the student is trained: fresh LoRA adapters, given ones, or all of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from trims_core.config import LoraSettings
from trims_core.errors import ConfigError
from trims_core.keyed import draw_seed
from trims_core.training.spec import TrainSpec


def new_trainable(student: Any, spec: TrainSpec) -> nn.Module:
    """The student's model with what `train.lora` and `train.init_adapter` say trainable, the rest frozen."""
    train = spec.train
    if train.lora is None:
        model: Any = student.model.requires_grad_(True)
        if spec.engine == "plain":  # DeepSpeed keeps float32 copies itself
            model.float()
    elif train.init_adapter is not None:
        model = _given_lora(student, train.lora, Path(train.init_adapter))
    else:
        targets = student.family.lora_targets(train.lora.targets)
        model = add_lora(student.model, train.lora, targets, spec.seed)
    if train.gradient_checkpointing:
        checkpoint_activations(model)
    return model  # type: ignore[no-any-return]


def add_lora(model: Any, settings: LoraSettings, targets: str | list[str], seed: int) -> PeftModel:
    """The model with LoRA on `targets` (module names or a pattern), initialised from `seed` alone."""
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw_seed(seed, 0, "lora", "init"))
        return get_peft_model(model, config)


def _given_lora(student: Any, settings: LoraSettings, folder: Path) -> PeftModel:
    """The model with a folder's adapter, to be trained on.

    Raises: ConfigError: the adapter is not of `settings`' rank, or wraps other modules than its targets.
    """
    from trims_core.students import load_adapter_official

    adapted = load_adapter_official(student.model, folder)
    layers = {name: layer for name, layer in student.model.named_modules() if isinstance(layer, LoraLayer)}
    targets = re.compile(student.family.lora_targets(settings.targets))
    wanted = {name for name, _ in student.model.named_modules() if targets.fullmatch(name)}
    other = [student.family.official_name(name) for name in sorted(wanted ^ layers.keys())]
    if other:
        raise ConfigError(
            f"train.init_adapter: {folder} wraps {len(layers)} modules, train.lora.targets"
            f" {', '.join(settings.targets)} are {len(wanted)}; they differ in {len(other)}, e.g. {other[0]}."
            " Set train.lora.targets to the adapter's modules (never the head or the embedding)"
        )
    for name, weight in adapted.named_parameters():
        weight.requires_grad_("lora_" in name)
    # adapters are loaded to decode with, without dropout
    for layer in layers.values():
        for name in layer.lora_dropout:
            layer.lora_dropout[name] = nn.Dropout(settings.dropout) if settings.dropout else nn.Identity()
    adapted.peft_config[adapted.active_adapter].lora_dropout = settings.dropout
    return adapted


def checkpoint_activations(model: Any) -> None:
    """Recompute activations in the backward pass: less memory, about a third more time."""
    causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    causal.enable_input_require_grads()
    causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
