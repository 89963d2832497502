"""A two-layer masked diffusion student as an official checkpoint, bucket shards, and runs over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trims_core.config import LoraSettings, StudentConfig, TrainConfig
from trims_core.schema import BUCKETS, write_table
from trims_core.students import Family, save_official
from trims_core.students.llada import LladaFamily
from trims_core.training.journal import MEASURED, read_metrics
from trims_core.training.settings import shared_settings
from trims_core.training.spec import TrainSpec
from trims_core.training.zero import deepspeed_settings
from trims_core.variants import TrimsVariant

VOCAB_SIZE = 64
MASK_ID = 63
EOS_ID = 62
N_BUCKETS = 4
CONFIG = {
    "model_type": "llada",
    "d_model": 32,
    "n_layers": 2,
    "n_heads": 2,
    "mlp_hidden_size": 48,
    "vocab_size": VOCAB_SIZE,
    "max_sequence_length": 128,
    "eos_token_id": EOS_ID,
    "mask_token_id": MASK_ID,
    "weight_tying": False,
}


def tiny_model(seed: int = 0) -> Any:
    """A bidirectional two-layer model with random weights, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = tiny_family().new_model()
        model.init_weights()
    return model.float().eval()


def tiny_family() -> Family:
    """Its family."""
    return LladaFamily.read(CONFIG, {}, "the tiny student")


def write_student(folder: Path) -> Path:
    """The tiny student as a checkpoint folder in the official layout."""
    save_official(tiny_model(), CONFIG, None, folder)
    return folder


def write_bucket_shards(
    folder: Path, n_examples: int = 20, n_shards: int = 2, seed: int = 0, vocab_size: int = VOCAB_SIZE - 2
) -> tuple[Path, ...]:
    """Bucket shards of random examples with prompts of 2–6 and completions of 3–12 tokens."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for shard in range(n_shards):
        rows: dict[str, list[Any]] = {name: [] for name in BUCKETS.schema.names}
        for i in range(shard, n_examples, n_shards):
            prompt_length, n_tokens = int(generator.integers(2, 7)), int(generator.integers(3, 13))
            rows["id"].append(f"example-{i:03d}")
            rows["input_ids"].append(generator.integers(1, vocab_size, prompt_length + n_tokens).tolist())
            rows["prompt_length"].append(prompt_length)
            rows["difficulty_nats"].append(generator.random(n_tokens).tolist())
            rows["bucket"].append(generator.integers(1, N_BUCKETS + 1, n_tokens).tolist())
        paths.append(folder / f"buckets-{shard:05d}.parquet")
        write_table(paths[-1], BUCKETS, rows)
    return tuple(paths)


def tiny_train(**changes: Any) -> TrainConfig:
    """Six optimizer steps of eight sequences, validated and saved every two, with LoRA dropout."""
    settings: dict[str, Any] = {
        "max_steps": 6,
        "batch_size": 8,
        "micro_batch_size": 2,
        "lr": 1e-2,
        "warmup_ratio": 0.2,
        "save_steps": 2,
        "eval_steps": 2,
        "max_length": 64,
        "validation_fraction": 0.2,
        "lora": LoraSettings(r=4, alpha=8, dropout=0.1),
    }
    return TrainConfig(**(settings | changes))


def tiny_spec(folder: Path, **changes: Any) -> TrainSpec:
    """A run of `tiny_train` without DeepSpeed in its own folder; `changes` are fields of the spec."""
    train, variant = changes.pop("train", tiny_train()), changes.pop("variant", TrimsVariant())
    spec = TrainSpec(
        train=shared_settings(train, variant),
        variant=variant.as_read(),
        ends=train.ends_of(variant),
        student=StudentConfig(model=str(write_student(folder / "student"))),
        seed=0,
        deepspeed=deepspeed_settings(train.deepspeed),
        shards=write_bucket_shards(folder / "buckets"),
        n_buckets=N_BUCKETS,
        folder=folder / "run",
        adapter=folder / "adapter",
        engine="plain",
    )
    spec.folder.mkdir(parents=True, exist_ok=True)
    return spec.model_copy(update=changes)


def curve(spec: TrainSpec) -> list[dict[str, Any]]:
    """The metrics of a run without what is measured: exactly what a resumed run must repeat."""
    rows = read_metrics(spec.paths.metrics)
    return [{name: row[name] for name in row if name not in MEASURED} for row in rows]


def same_curves(left: TrainSpec, right: TrainSpec, relative: float, *, split: bool = False) -> bool:
    """Whether two runs have the same rows with values that agree up to a relative difference.

    Args:
        split: leave out the dead columns, whose number is a matter of how a batch is split.
    """
    curves = ([_flat(row) for row in curve(spec)] for spec in (left, right))
    rows = list(zip(*curves, strict=True))
    return bool(rows) and all(
        one.keys() == two.keys()
        and one["kind"] == two["kind"]
        and all(
            one[name] == two[name] or np.isclose(one[name], two[name], rtol=relative)
            for name in one
            if name != "kind" and not (split and name == "dead_columns")
        )
        for one, two in rows
    )


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    groups = {name: row[name] for name in ("parts", "measures") if name in row}
    inner = {f"{group}/{name}": value for group, found in groups.items() for name, value in found.items()}
    return {name: value for name, value in row.items() if name not in groups} | inner


def adapter_bytes(spec: TrainSpec) -> bytes:
    """The trained adapter's weights as written."""
    return (spec.adapter / "adapter_model.safetensors").read_bytes()


def steps_with_checkpoint(spec: TrainSpec) -> list[int]:
    """Steps of the checkpoint folders that carry a mark, sorted."""
    marks = [path for path in spec.paths.checkpoints.glob("*") if (path / "COMPLETE").exists()]
    return sorted(json.loads((path / "COMPLETE").read_text())["step"] for path in marks)
