"""Peak memory and time of a LoRA training step against the dense formulation: one JSON line.

usage: python bench/train_step.py [--rounds N] [--steps N] [--quick]
       python bench/train_step.py --method NAME [--steps N] [--quick]
The claims: head and cross-entropy on masked positions in chunks need at most half of the dense formulation's
memory beyond the weights and at most 0.8 of its time.
Baseline: float32 logits of the whole canvas, cross-entropy of every position, then the masked ones are
summed. Same weights, inputs and optimizer, so the losses must agree. Each measurement is a process of its
own and the two take turns; medians count. Student: LLaDA family, 4 layers × 512, random weights.
With --method, a method of train.variants: drawing its masks and making its sets costs at most 1 % of a step
of the demo (its student, 32 sequences) and at most 0.1 % of one at a vocabulary of 126,464.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import methods

MEMORY_LIMIT = 0.5
TIME_LIMIT = 0.8
MASKS_LIMIT = 0.001
DEMO_MASKS_LIMIT = 0.01
LOSS_TOLERANCE = 1e-5
KINDS = ("chunked", "dense")
DEMO_STUDENT = Path(__file__).resolve().parent.parent / "data" / "demo" / "student"


@dataclass(frozen=True)
class Shape:
    """What is trained on: B sequences of L tokens, a share of them masked, V rows of the head."""

    batch: int = 4
    length: int = 1024
    mask_ratio: float = 0.5
    vocab: int = 126_464
    layers: int = 4
    hidden: int = 512


QUICK = Shape(batch=2, length=128, vocab=8192, layers=1, hidden=64)


def main() -> int:
    """0 if the claims hold; with --quick only if both formulations give one loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--method", help="measure what this method costs beside its passes")
    parser.add_argument("--quick", action="store_true", help="a small shape, one round: does it run?")
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = QUICK if options.quick else Shape()
    if options.child:
        print(json.dumps(measure(options.child, shape, options.steps)))
        return 0
    if options.method:
        return method_cost(options.method, shape, options.steps, quick=options.quick)
    rounds = 1 if options.quick else options.rounds
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            found[kind].append(_child(kind, options.steps, quick=options.quick))
    summary = _summary(shape, found, rounds)
    print(json.dumps(summary))
    same = summary["loss_difference"] <= LOSS_TOLERANCE
    fast = summary["memory_ratio"] <= MEMORY_LIMIT and summary["time_ratio"] <= TIME_LIMIT
    return 0 if same and (options.quick or (fast and summary["masks_share"] <= MASKS_LIMIT)) else 1


def _summary(shape: Shape, found: dict[str, list[dict[str, float]]], rounds: int) -> dict[str, Any]:
    mine, theirs = ({name: _median(found[kind], name) for name in found[kind][0]} for kind in KINDS)
    return {
        "bench": "train_step",
        **asdict(shape),
        "n": rounds,
        "threads": mine["threads"],
        "seconds": round(mine["seconds"], 3),
        "dense_seconds": round(theirs["seconds"], 3),
        "time_ratio": round(mine["seconds"] / theirs["seconds"], 3),
        "time_limit": TIME_LIMIT,
        "weights_mib": round(mine["weights_mib"]),
        "beyond_weights_mib": round(mine["beyond_weights_mib"]),
        "dense_beyond_weights_mib": round(theirs["beyond_weights_mib"]),
        "memory_ratio": round(mine["beyond_weights_mib"] / theirs["beyond_weights_mib"], 3),
        "memory_limit": MEMORY_LIMIT,
        "masks_share": round(mine["masks_seconds"] / mine["seconds"], 5),
        "masks_limit": MASKS_LIMIT,
        "loss_difference": abs(mine["loss"] / theirs["loss"] - 1.0),
    }


def _median(rows: list[dict[str, float]], name: str) -> float:
    return statistics.median(row[name] for row in rows)


def _child(kind: str, steps: int, *, quick: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", kind, "--steps", str(steps)]
    done = subprocess.run([*command, *(["--quick"] if quick else [])], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the {kind} measurement failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def method_cost(name: str, shape: Shape, steps: int, *, quick: bool) -> int:
    """Prints what a method costs at both sizes; 0 if its shares are within their limits."""
    variant = methods.settings(name)
    repeats = (2, 1) if quick else (9, steps)
    of_demo = replace(methods.DEMO, batch=4) if quick else methods.DEMO
    demo = methods.cost(variant, *demo_student(), of_demo, repeats)
    rows = methods.large(shape.batch, shape.length)
    large = methods.cost(variant, *new_student(shape), rows, repeats)
    found = {
        "bench": "train_step",
        "method": name,
        "vocab": shape.vocab,
        **{f"demo_{key}": value for key, value in demo.items()},
        "demo_share_limit": DEMO_MASKS_LIMIT,
        **large,
        "share_limit": MASKS_LIMIT,
    }
    print(json.dumps(found))
    return 0 if quick or (demo["share"] <= DEMO_MASKS_LIMIT and large["share"] <= MASKS_LIMIT) else 1


def measure(kind: str, shape: Shape, steps: int) -> dict[str, float]:
    """Seconds of a step (after a first one), MiB of the weights, MiB at the peak beyond them, the loss."""
    import torch

    from trims_core.training.student import Denoiser, TrainedStudent

    model, family = new_student(shape)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    method, batch, masks_s = _batch(shape, family)
    denoiser = Denoiser(model, family)
    student = TrainedStudent(denoiser, denoiser)
    weights_mib = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    before_mib = _reset_peak_mib()
    seconds, losses = [], []
    for _ in range(steps + 1):
        start = time.perf_counter()
        if kind == "chunked":
            (loss,) = (one.total for one in method.losses(student, batch, methods.totals(batch)))
        else:
            loss = _dense_loss(denoiser, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    return {
        "seconds": statistics.median(seconds[1:]),
        "weights_mib": weights_mib,
        "beyond_weights_mib": _status_mib("VmHWM") - before_mib,
        "masks_seconds": masks_s,
        "loss": losses[0],
        "threads": torch.get_num_threads(),
    }


def demo_student() -> tuple[Any, Any]:
    """The demo's student as configs/demo.yaml trains it, and its family."""
    from trims_core.config import LoraSettings
    from trims_core.students import load_student
    from trims_core.training.trainable import add_lora

    student = load_student(str(DEMO_STUDENT))
    settings = LoraSettings(r=32, alpha=64, dropout=0.0)
    targets = student.family.lora_targets(settings.targets)
    return add_lora(student.model, settings, targets, 0).train(), student.family


def new_student(shape: Shape) -> tuple[Any, Any]:
    """The student with fresh LoRA adapters on its linear layers, and its family."""
    import torch

    from trims_core.config import LoraSettings
    from trims_core.students.llada import LladaFamily
    from trims_core.training.trainable import add_lora

    config = {
        "model_type": "llada",
        "d_model": shape.hidden,
        "n_layers": shape.layers,
        "n_heads": max(1, shape.hidden // 64),
        "mlp_hidden_size": 3 * shape.hidden,
        "vocab_size": shape.vocab,
        "max_sequence_length": 4096,
        "eos_token_id": shape.vocab - 2,
        "mask_token_id": shape.vocab - 1,
        "weight_tying": False,
    }
    family = LladaFamily.read(config, {}, "bench/train_step.py")
    torch.manual_seed(0)
    model = family.new_model()
    model.init_weights()
    settings = LoraSettings(dropout=0.0)
    return add_lora(model.float(), settings, family.lora_targets(settings.targets), 0).train(), family


def _batch(shape: Shape, family: Any) -> tuple[Any, Any, float]:
    """A method that masks the shape's share, a micro-batch of it, and the median seconds of drawing one."""
    from trims_core.variants import TrimsVariant

    rows = methods.large(shape.batch, shape.length)
    # the share of the canvas, of which the prompt is never masked
    probability = shape.mask_ratio * shape.length / (shape.length - rows.prompt)
    variant = TrimsVariant(rho=1.0, p_low=probability, p_high=probability)
    method = methods.build(variant, family)
    seconds = []
    for epoch in range(9):
        sequences = methods.sequences(rows, shape.vocab, epoch)
        start = time.perf_counter()
        batch = method.batch(sequences)
        seconds.append(time.perf_counter() - start)
    return method, batch, statistics.median(seconds)


def _dense_loss(denoiser: Any, batch: Any) -> Any:
    """Float32 logits and cross-entropy of every position of the canvas, masked ones summed."""
    from torch.nn import functional

    view = batch.view
    causal = denoiser.model.get_base_model()
    hidden_BLD = causal.base_model(input_ids=view.noisy_BL, use_cache=False).last_hidden_state
    logits_NV = causal.get_output_embeddings()(hidden_BLD).float().flatten(0, 1)
    nll_N = functional.cross_entropy(logits_NV, batch.target_BL.flatten(), reduction="none")
    return (nll_N * view.weight_BL.flatten()).sum() / methods.totals(batch).n_supervised


def _reset_peak_mib() -> float:
    """Forget the peak so far; gives back what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status_mib("VmRSS")


def _status_mib(name: str) -> float:
    match = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"), re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
