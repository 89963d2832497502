"""The README.md beside an adapter: what it is, how it was made, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trims_core.training.settings import TrainSettings, base_name
from trims_core.variants import EndsConfig, VariantConfig


def model_card(
    settings: TrainSettings,
    edges: Mapping[str, Any],
    digests: Mapping[str, str],
    result: Mapping[str, Any],
    finals: Mapping[str, float | None],
) -> str:
    """Markdown with the front matter model hubs read; of equal trainings the same, wherever files lie.

    Args:
        edges: of the buckets (`k`, `metric`).
        digests: what the adapter was made from (`student`, `buckets`).
        result: counts and sizes from the training run.
        finals: last training and validation losses.
    """
    train, variant, base = settings.train, settings.variant, base_name(settings.student)
    method = "standard masked diffusion fine-tuning"
    if variant.method == "trims":
        method = f"TRIMS (trajectory-aware masks, {variant.order} order, mixing ρ = {variant.rho:g})"
    counts = result["counts"]
    n_trained = counts["n_examples"] - counts["n_validation"]
    trajectory = {
        "order": variant.order,
        "ρ": variant.rho,
        "p_low, p_high": f"{variant.p_low:g}, {variant.p_high:g}",
    }
    rows = {
        "method": variant.method,
        **({"masks of the user's own": variant.masks} if variant.masks else {}),
        **(trajectory if variant.method == "trims" else {}),
        "loss weight, normalisation": f"{_weight(variant)}, {train.loss_norm}",
        "buckets": f"{edges['k']} by {edges['metric']}",
        "seed": settings.seed,
        "optimizer steps × sequences": f"{result['steps']} × {train.batch_size}",
        "learning rate, schedule, warm-up": f"{train.lr:g}, {train.scheduler}, {train.warmup_ratio:g}",
        "weight decay, gradient clip": f"{train.weight_decay:g}, {train.max_grad_norm:g}",
        "LoRA r, alpha, dropout": f"{train.lora.r}, {train.lora.alpha:g}, {train.lora.dropout:g}",
        "LoRA targets": ", ".join(train.lora.targets),
        "max length": train.max_length,
        "supervised ends": _ends(settings.ends),
        "trainable parameters": f"{result['trainable_parameters']:,}",
        "examples trained on, held out": f"{n_trained}, {counts['n_validation']}",
        "of them without an end of turn (truncated)": counts["n_truncated"],
        "final training loss": _number(finals["train_loss"]),
        "final validation loss (nats per content token, standard masks)": _number(finals["eval_loss"]),
        "final validation loss of hidden ends (nats per token)": _number(finals["eval_end_loss"]),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""---
library_name: peft
base_model: {base}
tags: [lora, masked-diffusion, trims]
---

# LoRA adapter by {method}

| | |
|---|---|
{table}

Base checkpoint: `{base}` (digest `{digests["student"]}`).
Data: difficulty buckets with content digest `{digests["buckets"]}`.

Known from a small demo world only: ends that are never shown make parallel decoding better, under any
masks; what a teacher's order adds to that is small (TRIMS-Pipeline, docs/masks.md, "What is known").

## Loading

The weights carry the official module names of the base checkpoint, so PEFT loads them onto it:

```python
from peft import PeftModel
from transformers import AutoModel

base = AutoModel.from_pretrained("{base}", trust_remote_code=True)
model = PeftModel.from_pretrained(base, "path/to/this/folder")
```

or, without remote code:

```python
from pathlib import Path
from trims_core.students import load_student

student = load_student("{base}", adapter=Path("path/to/this/folder"))
```
"""


def _weight(variant: VariantConfig) -> str:
    of = {
        "inverse_p": f" (at most {variant.inverse_p_clip:g})",
        "cart": f" (p = {variant.cart_p:g})",
        "bucket_profile": f" (ρ {variant.rho:g}, p {variant.p_low:g}, {variant.p_high:g}, {variant.order})",
    }
    return variant.loss_weight + of.get(variant.loss_weight, "")


def _ends(ends: EndsConfig) -> str:
    if ends.pads == "none":
        return "none behind an answer"
    text = f"up to {ends.tokens} behind an answer, masked: {ends.pads}"
    text += f" (in a share {ends.rho:g}, with {ends.p_high:g})" if ends.pads == "last" else ""
    text += f", loss × {ends.weight:g}" if ends.weight != 1 else ""
    return text + (", the end of turn with them" if ends.hide_end_of_turn else "")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
