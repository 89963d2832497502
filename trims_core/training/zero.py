"""DeepSpeed settings: ZeRO-2 without an optimizer block, or a JSON file such as zero3.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from trims_core.errors import ConfigError

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


def deepspeed_settings(path: str | None) -> dict[str, Any]:
    """The DeepSpeed configuration: built in, or read from a JSON file.

    Raises:
        ConfigError: no such file, not JSON, or a ZeRO stage that there is not.
    """
    if path is None:
        return json.loads(json.dumps(ZERO2))
    try:
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"train.deepspeed: {path}: no such file; expected a DeepSpeed JSON such as"
            " configs/deepspeed/zero2.json, or leave it out for ZeRO-2"
        ) from None
    except ValueError as error:
        raise ConfigError(f"train.deepspeed: {path}: not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"train.deepspeed: {path}: expected a JSON object, found {type(settings).__name__}")
    if zero_stage(settings) not in (0, 1, 2, 3):
        raise ConfigError(
            f"train.deepspeed: {path}: ZeRO stage {zero_stage(settings)!r}; expected 0, 1, 2 or 3"
        )
    return settings


def zero_stage(settings: dict[str, Any]) -> Any:
    """What is cut up among the ranks: 1 optimizer states, 2 gradients too, 3 weights too; 0 nothing."""
    return settings.get("zero_optimization", {}).get("stage", 0)
