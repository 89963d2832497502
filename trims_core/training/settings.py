"""What one adapter's training may read, and how a run's config becomes that.

Whatever a training does not read is at its default here: adapters whose settings are equal are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from trims_core.block_causal import BLOCK_CAUSAL
from trims_core.config import LoraSettings, StudentConfig, TrainConfig, TrainingConfig, TrimsConfig
from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests
from trims_core.graph import Node
from trims_core.sections import LATER, OPERATIONAL, Section
from trims_core.students.adapter_config import (
    ADAPTER_CONFIG_NAME,
    ADAPTER_WEIGHTS_NAME,
    read_adapter_config,
)
from trims_core.students.tensor_files import tensor_names
from trims_core.training.zero import deepspeed_settings, zero_stage
from trims_core.user_code import source_file
from trims_core.variants import EndsConfig, RoundsVariant, Variant, VariantConfig


class TrainSettings(Section):
    """One adapter's training."""

    train: TrainingConfig
    """With `length_window` filled in; without what overrides leave unread, and without `deepspeed`'s path."""
    variant: Variant
    """Its method and what that reads; its ends are in `ends`."""
    ends: EndsConfig
    seed: int
    student: StudentConfig
    """Without its template: prompts come as tokens."""
    round: Annotated[int | None, LATER] = None
    """Of reinforcement; None: not in rounds."""
    validated_every: Annotated[int | None, LATER] = None
    """Optimizer steps; read where the best weights are kept."""
    deepspeed: dict[str, Any]
    """DeepSpeed's configuration: what train.deepspeed holds, or the built-in one."""
    variant_name: Annotated[str, OPERATIONAL]
    """For messages and reports."""
    run_name: Annotated[str, OPERATIONAL]
    """`<config name>/<variant>-s<seed>`, and `-r<round>`: what experiment trackers call the run."""

    @property
    def carries_optimizer(self) -> bool:
        """Whether a further round goes on with this one's optimizer."""
        return isinstance(self.variant, RoundsVariant) and self.variant.carry_optimizer


def train_settings(config: TrimsConfig, node: Node) -> TrainSettings:
    """The settings of the variant and seed a node stands for.

    Raises:
        ConfigError: train.deepspeed names no usable file.
    """
    name, seed = str(node.params["variant"]), int(node.params["seed"])
    variant = config.train.variants[name]
    number = node.params.get("round")
    deepspeed = deepspeed_settings(config.train.deepspeed)
    check_trainable(config.train, deepspeed)
    _check_start(config.train, variant, deepspeed)
    return TrainSettings(
        train=shared_settings(config.train, variant),
        variant=variant.as_read(),
        ends=config.train.ends_of(variant),
        seed=seed,
        round=None if number is None else int(number),
        student=config.student.without_template(),
        validated_every=config.train.eval_steps if config.train.keep == "best" else None,
        deepspeed=deepspeed,
        variant_name=name,
        run_name=f"{config.name}/{name}-s{seed}" + ("" if number is None else f"-r{number}"),
    )


def check_trainable(train: TrainingConfig, deepspeed: Mapping[str, Any]) -> None:
    """Raises ConfigError for ways to cut up weights among ranks that full fine-tuning does not have."""
    if train.lora is None and zero_stage(deepspeed) == 3:
        raise ConfigError(
            f"train.deepspeed: {train.deepspeed}: ZeRO stage 3 with train.lora null: a head that is trained"
            " and cut up among the ranks is not supported; expected stage 2 or less (train.deepspeed: null),"
            " or train.lora with an adapter's shape"
        )


def _check_start(train: TrainingConfig, variant: VariantConfig, deepspeed: Mapping[str, Any]) -> None:
    if getattr(variant, "old_dropout", False) and zero_stage(deepspeed) == 3:
        raise ConfigError(
            f"train.deepspeed: {train.deepspeed}: ZeRO stage 3 with old_dropout true: the weights that a"
            " round began with are kept whole; expected stage 2 or less (train.deepspeed: null), or"
            " old_dropout false"
        )


def shared_settings(train: TrainConfig, variant: VariantConfig) -> TrainingConfig:
    """What every variant and seed reads, the normalisation where its method does; of a method in rounds its
    own steps, on all rollouts of the round at once, at a constant rate, with nothing held out."""
    unread = {"deepspeed"}
    if train.max_forwards is not None:
        unread |= {"epochs", "max_steps"}
    elif train.max_steps is not None:
        unread.add("epochs")
    if not variant.reads_loss_norm:
        unread.add("loss_norm")
    read = {name: getattr(train, name) for name in TrainingConfig.model_fields if name not in unread}
    if isinstance(variant, RoundsVariant):
        read |= {"max_steps": variant.inner_steps, "batch_size": variant.batch_size}
        read |= {"lr": variant.lr or train.lr, "scheduler": "constant", "warmup_ratio": 0.0}
        read |= {"validation_fraction": 0.0, "keep": "last", "length_window": 1}
        for name in ("max_forwards", "epochs"):
            read.pop(name, None)
        return TrainingConfig(**read)
    return TrainingConfig(**(read | {"length_window": train.window}))


def outside_inputs(settings: TrainSettings, digests: Digests) -> dict[str, str]:
    """Digests of the student's checkpoint, of an adapter to go on from, of modules of the user's own.

    Raises:
        ConfigError: one of them is not there.
    """
    found = {"student": digests.checkpoint(settings.student.model, settings.student.revision)}
    if settings.train.init_adapter is not None:
        folder = Path(settings.train.init_adapter)
        _check_given(folder, settings.train.lora, settings.variant)
        found["init_adapter"] = digests.tree(folder, (ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAME))
    for field, code in settings.variant.own_code().items():
        where = f"train.variants.{settings.variant_name}.{field}"
        found[field] = digests.file(source_file(code, where))
    return found


def check_attention(trained_in: int | None, variant: VariantConfig, student: str) -> None:
    """Raises ConfigError where a method does not go on from a block-causal student.

    Args:
        trained_in: positions of the student's blocks; None where it attends in both directions.
    """
    if trained_in is None or (trained_in == variant.block_causal_length and not variant.reads_reference):
        return
    why = (
        "this method's teacher attends in both directions"
        if variant.reads_reference
        else "this method attends otherwise"
    )
    raise ConfigError(
        f"student.model: {student} was trained to attend in blocks of {trained_in}, and method"
        f" {variant.method}: {why}. Take a student that attends in both directions, or method d2f with"
        f" block_length: {trained_in} and self_align: false"
    )


def _check_given(folder: Path, lora: LoraSettings | None, variant: VariantConfig) -> None:
    """Raises ConfigError unless a folder holds an adapter of the rank that is wanted, for the attention that
    the method trains."""
    try:
        found = read_adapter_config(folder / ADAPTER_CONFIG_NAME)
        tensor_names(folder / ADAPTER_WEIGHTS_NAME)
    except ConfigError as error:
        raise ConfigError(f"train.init_adapter: {error}") from error
    if lora is not None and (found["r"], found["lora_alpha"]) != (lora.r, lora.alpha):
        raise ConfigError(
            f"train.init_adapter: {folder} has r {found['r']} and alpha {found['lora_alpha']:g}, train.lora"
            f" says r {lora.r} and alpha {lora.alpha:g}; set train.lora to the adapter's"
        )
    blocks = found.get(BLOCK_CAUSAL)
    if blocks is not None and blocks != variant.block_causal_length:
        raise ConfigError(
            f"train.init_adapter: {folder} was trained to attend in blocks of {blocks}, method"
            f" {variant.method} trains {_attention(variant)}; expected an adapter of the same attention, or"
            " one of attention in both directions"
        )


def _attention(variant: VariantConfig) -> str:
    length = variant.block_causal_length
    return "attention in both directions" if length is None else f"blocks of {length}"


def base_name(student: StudentConfig) -> str:
    """What an adapter calls its base: the hub name, or a local folder's own name without its path."""
    folder = Path(student.model)
    return (folder.name or folder.resolve().name) if folder.is_dir() else student.model
