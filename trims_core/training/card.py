"""The README.md beside an adapter or a checkpoint: what it is, how it was made, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trims_core.config import TrainingConfig
from trims_core.training.settings import TrainSettings, base_name
from trims_core.variants import EndsConfig

_SHORT: Final = 12
"""Digits by which a digest is named."""


def model_card(
    settings: TrainSettings,
    edges: Mapping[str, Any] | None,
    digests: Mapping[str, str],
    result: Mapping[str, Any],
    finals: Mapping[str, float | None],
) -> str:
    """Markdown with the front matter model hubs read; of equal trainings the same, wherever files lie.

    Args:
        edges: of the buckets (`k`, `metric`); None where it is trained on something else.
        digests: what it was made from (`student`, perhaps `init_adapter`, by role what it is trained on).
        result: counts and sizes from the training run.
        finals: last training and validation losses.
    """
    train, variant, base = settings.train, settings.variant, base_name(settings.student)
    counts = result["counts"]
    n_trained = counts["n_examples"] - counts["n_validation"]
    n_open = counts["n_truncated"] + counts.get("n_unfinished", 0)
    no_reference = [counts.get(name) for name in ("n_without_reference", "n_reference_too_long")]
    rows = {
        **variant.card_rows(),
        **({"loss normalisation": train.loss_norm} if variant.reads_loss_norm else {}),
        **({"buckets": f"{edges['k']} by {edges['metric']}"} if edges else {}),
        "seed": settings.seed,
        **({} if settings.round is None else {"round": settings.round}),
        "optimizer steps × sequences": f"{result['steps']} × {train.batch_size}",
        "learning rate, schedule, warm-up": f"{train.lr:g}, {train.scheduler}, {train.warmup_ratio:g}",
        "weight decay, gradient clip": f"{train.weight_decay:g}, {train.max_grad_norm:g}",
        "AdamW's betas": f"0.9, {train.adam_beta2:g}",
        **_what_is_trained(train, settings.student.dtype, digests),
        "max length": train.max_length,
        "supervised ends": _ends(settings.ends),
        "kept": _kept(train, result["kept_step"]),
        "trainable parameters": f"{result['trainable_parameters']:,}",
        "examples trained on, held out": f"{n_trained}, {counts['n_validation']}",
        "of them without an end (truncated, unfinished)": n_open,
        **(
            {"left out: no prompt for the reference, or one too long": "{}, {}".format(*no_reference)}
            if None not in no_reference
            else {}
        ),
        "final training loss": _number(finals["train_loss"]),
        "final validation loss (nats per content token, standard masks)": _number(finals["eval_loss"]),
        "final validation loss of hidden ends (nats per token)": _number(finals["eval_end_loss"]),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    whole = train.lora is None
    return f"""---
library_name: {"transformers" if whole else "peft"}
base_model: {base}
tags: [{"" if whole else "lora, "}masked-diffusion, trims]
---

# {"All weights trained" if whole else "LoRA adapter"} by {variant.title()}

| | |
|---|---|
{table}

Base checkpoint: `{base}` (digest `{digests["student"]}`).
Data: {_data(digests)}.

Known from a small demo world only: ends that are never shown make parallel decoding better, under any
masks; what a teacher's order adds to that is small (TRIMS-Pipeline, docs/masks.md, "What is known").

## Loading

{_loading(base, whole=whole, blocks=variant.block_causal_length)}"""


def _loading(base: str, *, whole: bool, blocks: int | None) -> str:
    others, ours = (_CHECKPOINT, _OUR_CHECKPOINT) if whole else (_ADAPTER, _OUR_ADAPTER)
    if blocks is None:
        return f"{others}\nor, without remote code:\n{ours}".replace("BASE", base)
    return (
        f"Attention is block-causal, in blocks of {blocks} behind the prompt (`block_causal_length`)."
        " Programs that attend in both directions load the weights and give other answers; this one"
        f" obeys:\n{ours}"
    ).replace("BASE", base)


_ADAPTER: Final = """\
The weights carry the official module names of the base checkpoint, so PEFT loads them onto it:

```python
from peft import PeftModel
from transformers import AutoModel

base = AutoModel.from_pretrained("BASE", trust_remote_code=True)
model = PeftModel.from_pretrained(base, "path/to/this/folder")
```
"""
_OUR_ADAPTER: Final = """
```python
from pathlib import Path
from trims_core.students import load_student

student = load_student("BASE", adapter=Path("path/to/this/folder"))
```
"""


def _data(digests: Mapping[str, str]) -> str:
    """By content digests, so that equal data are known again."""
    names = {
        "buckets": "difficulty buckets",
        "tokens": "the corpus in the student's tokens",
        "rollouts": "the student's own answers",
        "grades": "their grades",
        "references": "prompts with the right answer, which the reference reads",
        "prompts": "prompts with the right answer, which the student reads",
    }
    found = {text: digests[role] for role, text in names.items() if role in digests}
    return ", ".join(f"{text} with content digest `{digest}`" for text, digest in found.items())


_CHECKPOINT: Final = """A whole checkpoint in the layout of the base checkpoint, under its official names:

```python
from transformers import AutoModel

model = AutoModel.from_pretrained("path/to/this/folder", trust_remote_code=True)
```
"""
_OUR_CHECKPOINT: Final = """
```python
from trims_core.students import load_student

student = load_student("path/to/this/folder", dtype="auto")
```
"""


def _what_is_trained(train: TrainingConfig, dtype: str, digests: Mapping[str, str]) -> dict[str, str]:
    if train.lora is None:
        return {"trained": "all weights, embeddings and head included", "weights kept in": dtype}
    rows = {
        "LoRA r, alpha, dropout": f"{train.lora.r}, {train.lora.alpha:g}, {train.lora.dropout:g}",
        "LoRA targets": ", ".join(train.lora.targets),
    }
    if "train" in digests:
        return {**rows, "started from": f"the round before, digest {digests['train'][:_SHORT]}"}
    if train.init_adapter is None:
        return rows
    return {**rows, "started from": f"the adapter with digest {digests['init_adapter'][:_SHORT]}"}


def _kept(train: TrainingConfig, step: int) -> str:
    if train.keep == "last":
        return "the last weights"
    return f"the weights of step {step}, with the lowest validation loss of content"


def _ends(ends: EndsConfig) -> str:
    if ends.pads == "none":
        return "none behind an answer"
    text = f"up to {ends.tokens} behind an answer, masked: {ends.pads}"
    text += f" (in a share {ends.rho:g}, with {ends.p_high:g})" if ends.pads == "last" else ""
    text += f", loss × {ends.weight:g}" if ends.weight != 1 else ""
    return text + (", the end of turn with them" if ends.hide_end_of_turn else "")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
