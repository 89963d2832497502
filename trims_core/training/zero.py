"""DeepSpeed settings: ZeRO-2 without an optimizer block, or a JSON file such as zero3.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from trims_core.errors import ConfigError, nearest_name
from trims_core.text_files import json_of

ZERO2: Final[dict[str, Any]] = {
    "zero_optimization": {
        "stage": 2,
        "contiguous_gradients": True,
        "overlap_comm": False,
        "reduce_scatter": True,
        "reduce_bucket_size": 50_000_000,
        "allgather_bucket_size": 50_000_000,
    },
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto"},
    "gradient_clipping": "auto",
    "gradient_accumulation_steps": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
}
"""What configs/deepspeed/zero2.json holds (a test keeps them equal). "auto" values come from `train`. Without
an "optimizer" block torch's AdamW is used and no optimizer has to be compiled."""


_EXPECTED: Final = "train.deepspeed to name a DeepSpeed JSON such as configs/deepspeed/zero2.json, or none"
_AUTO: Final = tuple(name for name in ZERO2 if name != "zero_optimization")
_SET_BY: Final[dict[str, str]] = {
    "optimizer": "train.lr, train.weight_decay and train.adam_beta2",
    "scheduler": "train.scheduler, train.lr and train.warmup_ratio",
    "gradient_clipping": "train.max_grad_norm",
    "gradient_accumulation_steps": "train.batch_size, train.micro_batch_size and train.launch",
    "train_batch_size": "train.batch_size",
    "train_micro_batch_size_per_gpu": "train.micro_batch_size",
    "bf16.enabled": "student.dtype",
    "fp16.enabled": "student.dtype",
    "amp": "student.dtype",
    "torch_autocast": "student.dtype",
    "elasticity": "train.batch_size and train.launch",
    "curriculum_learning": "nothing (it is not supported)",
    "data_efficiency": "nothing (it is not supported)",
    "progressive_layer_drop": "nothing (it is not supported)",
    "compression_training": "nothing (it is not supported)",
    "weight_quantization": "nothing (it is not supported)",
}
"""What of a DeepSpeed file would replace settings of ours, and which settings these are."""
_KNOWN: Final = (
    *ZERO2,
    "activation_checkpointing",
    "aio",
    "check_grad_overflow",
    "checkpoint",
    "comms_logger",
    "communication_data_type",
    "compile",
    "csv_monitor",
    "data_types",
    "disable_allgather",
    "dump_state",
    "flops_profiler",
    "gradient_predivide_factor",
    "memory_breakdown",
    "prescale_gradients",
    "seq_parallel_communication_data_type",
    "steps_per_print",
    "tensorboard",
    "timers",
    "wall_clock_breakdown",
    "wandb",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
)
"""Blocks that DeepSpeed reads; it passes over others without a word."""


def deepspeed_settings(path: str | None) -> dict[str, Any]:
    """The DeepSpeed configuration: built in, or read from a JSON file; what that leaves out is "auto".

    Raises:
        ConfigError: no such file, not JSON, a ZeRO stage that there is not, a block that DeepSpeed does not
            know, or one that would replace settings of ours.
    """
    if path is None:
        return json.loads(json.dumps(ZERO2))
    settings = json_of(Path(path), _EXPECTED)
    wrong = list(_wrong_blocks(settings))
    if wrong:
        raise ConfigError("".join(f"train.deepspeed: {path}: {line}\n" for line in wrong).rstrip())
    autos = {name: json.loads(json.dumps(block)) for name, block in ZERO2.items() if name in _AUTO}
    return {**autos, **settings}


def _wrong_blocks(settings: Any) -> Iterator[str]:
    """A line for each block that cannot be used."""
    if not isinstance(settings, dict):
        yield f"expected a JSON object, found {type(settings).__name__}"
        return
    if not isinstance(settings.get("zero_optimization", {}), dict):
        yield 'zero_optimization: expected an object such as {"stage": 2}'
    elif zero_stage(settings) not in (0, 1, 2, 3):
        yield f"ZeRO stage {zero_stage(settings)!r}; expected 0, 1, 2 or 3"
    for name, setting in _SET_BY.items():
        block, _, field = name.partition(".")
        value = settings.get(block, {} if field else "auto")
        if field and isinstance(value, dict):
            value = value.get(field, "auto")
        if value != "auto":
            yield f"{name} {value!r:.60} would replace what is set by {setting}; delete it"
    for name in settings:
        if name not in (*_KNOWN, *_SET_BY):
            yield f"{name}: DeepSpeed has no such block; {nearest_name(name, _KNOWN)}"


def zero_stage(settings: Mapping[str, Any]) -> Any:
    """What is cut up among the ranks: 1 optimizer states, 2 gradients too, 3 weights too; 0 nothing."""
    return settings.get("zero_optimization", {}).get("stage", 0)
