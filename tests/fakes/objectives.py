"""Cases of the published programs' training losses, and the students and gradients they are about."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trims_core.config import TrainConfig
from trims_core.keyed import draw_seed
from trims_core.students import load_student
from trims_core.training.method import Context, Loss
from trims_core.training.sequences import Batch, Sequences, Totals
from trims_core.training.student import Denoiser, TrainedStudent
from trims_core.variants import EndsConfig

Case = dict[str, Any]
NO_ENDS = EndsConfig(pads="none", tokens=0)
LOSS_TOLERANCE = 2e-5
GRADIENT_TOLERANCE = 3e-4
_SHARED_FAMILIES = {"llada": "llada/tiny_mha", "dream": "dream/tiny_dream"}


def cases_of(shared: Path, objective: str) -> dict[str, Case]:
    """The cases of one objective by name, their arrays under `arrays`."""
    folder = shared / "oracles" / "objectives"
    arrays = np.load(folder / f"{objective}.npz")
    cases = {case["name"]: dict(case) for case in json.loads((folder / f"{objective}.json").read_text())}
    for name, case in cases.items():
        own = [key for key in arrays.files if key.startswith(f"{name}/")]
        case["arrays"] = {key.partition("/")[2]: arrays[key] for key in own}
    return cases


def student_of(shared: Path, case: Case) -> tuple[TrainedStudent, Any]:
    """The checkpoint of a case, all of it trainable and with its adapter if it has one, and its model under
    Hugging Face's names."""
    folder = case["checkpoint"].partition(" ")[0]
    path = shared / "oracles" / folder
    if not path.is_dir():
        path = shared / "oracles" / "objectives" / "tiny_objectives" / case["family"]
    adapter = shared / "oracles" / "objectives" / case["adapter"] if "adapter" in case else None
    student = load_student(str(path), adapter=adapter)
    model = student.model.requires_grad_(True).train()
    denoiser = Denoiser(model, student.family)
    return TrainedStudent(denoiser, denoiser), model


def context_of(case: Case, **train: Any) -> Context:
    """What a method is made from for a case: no ends of ours, the case's mask id and family."""
    return Context(
        train=TrainConfig(**train),
        ends=NO_ENDS,
        n_buckets=1,
        mask_id=case["mask_id"],
        family=case["family"],
        pad_id=case.get("pad_id", 0),
    )


def sequences_of(
    ids: Sequence[Sequence[int]],
    prompt_lengths: Sequence[int],
    *,
    reveal_step: Sequence[Sequence[int]] | None = None,
    step: int = 0,
    progress: float = 0.0,
) -> Sequences:
    """Rows of one length as a method gets them; all behind the prompt is content."""
    target_BL = torch.tensor(ids)
    prompt_BL = torch.arange(target_BL.shape[1]) < torch.tensor(prompt_lengths)[:, None]
    reveal_BL = torch.full(target_BL.shape, -1, dtype=torch.int16)
    for row, steps in enumerate(reveal_step or ()):
        start = prompt_lengths[row]
        reveal_BL[row, start : start + len(steps)] = torch.tensor(steps, dtype=torch.int16)
    names = tuple(f"row-{row}" for row in range(len(target_BL)))
    return Sequences(
        ids=names,
        target_BL=target_BL,
        prompt_BL=prompt_BL,
        content_BL=~prompt_BL,
        end_BL=torch.zeros_like(prompt_BL),
        bucket_BL=torch.ones(target_BL.shape, dtype=torch.uint8),
        reveal_BL=reveal_BL,
        step=step,
        progress=progress,
        seeds=lambda purpose: [draw_seed(0, 0, name, purpose) for name in names],
        dropout_seeds=lambda number: number,
    )


def positions_of(rows: Sequence[Sequence[int]], shape: Sequence[int]) -> Tensor:
    """Lists of positions, one per row, as bool [B, L]."""
    found_BL = torch.zeros(tuple(shape), dtype=torch.bool)
    for row, positions in enumerate(rows):
        found_BL[row, list(positions)] = True
    return found_BL


def totals_of(batches: Iterable[Batch]) -> Totals:
    """What a step of these micro-batches sums to."""
    batches = list(batches)
    names = dict.fromkeys(name for batch in batches for name in batch.counts)
    counts = {name: float(sum(batch.counts[name] for batch in batches)) for name in names}
    return Totals(counts, sum(len(batch.ids) for batch in batches), len(batches))


def back_through(losses: Iterable[Loss]) -> tuple[float, dict[str, float]]:
    """Gradients are added up on the model; gives back the loss and its parts."""
    total, parts = 0.0, {}
    for loss in losses:
        if loss.total.requires_grad:
            loss.total.backward()
        total += loss.total.item()
        for name, part in loss.parts.items():
            parts[name] = parts.get(name, 0.0) + float(part)
    return total, parts


def check_gradients(model: Any, case: Case, tolerance: float = GRADIENT_TOLERANCE) -> None:
    """The gradients of head and embedding are the case's, within their tolerance of the norm."""
    found = {"head": model.get_output_embeddings().weight, "emb": model.get_input_embeddings().weight}
    for name, weight in found.items():
        if f"grad_{name}_summary" not in case["arrays"]:
            continue
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        _, _, norm, *_ = (float(value) for value in case["arrays"][f"grad_{name}_summary"])
        assert gradient.double().norm().item() == _near(norm, tolerance * norm)
        places = torch.from_numpy(case["arrays"][f"grad_{name}_idx"].astype(np.int64))
        values = torch.from_numpy(case["arrays"][f"grad_{name}_val"].astype(np.float64))
        _check(gradient.flatten()[places], values, tolerance * norm)
        if f"grad_{name}" in case["arrays"]:
            whole = torch.from_numpy(case["arrays"][f"grad_{name}"].astype(np.float64))
            _check(gradient.flatten(), whole.flatten(), tolerance * norm)


def check_adapter_gradients(model: Any, case: Case, tolerance: float = GRADIENT_TOLERANCE) -> None:
    """The gradients of the adapter are the case's: their norm, and its first matrix B."""
    found = {name: weight.grad for name, weight in model.named_parameters() if "lora_" in name}
    norm = torch.stack([gradient.double().norm() for gradient in found.values()]).norm().item()
    assert norm == _near(case["grad_lora_l2"], tolerance * case["grad_lora_l2"])
    module = case["grad_lora_B_first_name"].split(".")[-3]
    (first,) = (name for name in found if f"layers.0.self_attn.{module}.lora_B" in name)
    expected = torch.from_numpy(case["arrays"]["grad_lora_B_first"].astype(np.float64))
    _check(found[first], expected, tolerance * expected.norm().item())


def _check(found: Tensor, expected: Tensor, at_most: float) -> None:
    assert (found.double() - expected).norm().item() <= at_most


def _near(value: float, at_most: float) -> Any:
    import pytest

    return pytest.approx(value, abs=at_most)
