"""Memory and time that a training will need, computed from shapes alone: what `trims plan` says beforehand.

Shape legend: h hidden size, v key-value width, m MLP width, V vocabulary. Imports no torch.

Covered: weights, gradients and optimizer states under ZeRO 0 to 3, saved activations with and without
checkpointing, the head's chunk, matrix products. Not covered: an allocator's fragmentation, communication,
the libraries' own memory (about 1 GiB on a GPU), loading the data, saving and validating. Every sequence is
counted at max_length, so times are upper bounds; the assumed share of the peak is a guess that is named.

Source: own derivation; parameters are counted against real modules in tests/training/test_estimate.py.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Final

from trims_core.config import LoraSettings, StudentConfig, TrainingConfig, TrimsConfig
from trims_core.errors import TrimsError
from trims_core.hub import checkpoint_folder
from trims_core.slots import has_gpu
from trims_core.students import Family, read_family
from trims_core.training.launch import count_processes
from trims_core.training.plan import count_held_out, count_steps
from trims_core.training.settings import check_trainable, shared_settings
from trims_core.training.zero import deepspeed_settings, zero_stage
from trims_core.variants import RoundsVariant

_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
_HEAD_CHUNK_BYTES: Final = 256 * 2**20
_NF4_BYTES: Final = 0.5 + 4 / 64
_MASKED_SHARE: Final = 0.5
"""Expected share of masked positions: t is uniform, the trajectory masks are symmetric about ½."""
_GIB: Final = 2**30
_SMALL_FILES: Final = ("config.json", "tokenizer_config.json", "added_tokens.json")


@dataclass(frozen=True)
class Machine:
    """What a process computes on: dense peak in FLOP/s, and the share of it that is assumed to be reached."""

    name: str
    peak_flops: float
    share: float = 0.4


@dataclass(frozen=True)
class Counts:
    """Parameters of a student: all, its layers' linear modules, its head's matrix, its adapters (0: none, all
    of it is trained)."""

    total: int
    linear: int
    head: int
    adapters: int


@dataclass(frozen=True)
class Estimate:
    """One model's training: GiB on each process, seconds of a step at max_length, steps where known."""

    counts: Counts
    weights_gib: float
    trained_gib: float
    """Adapters; gradients and optimizer of what is trained."""
    activations_gib: float
    head_gib: float
    step_seconds: float
    steps: int | None
    batch_size: int
    processes: int
    machine: Machine

    @property
    def total_gib(self) -> float:
        """Memory of one process."""
        return self.weights_gib + self.trained_gib + self.activations_gib + self.head_gib

    @property
    def hours(self) -> float | None:
        """One model's time, where the number of steps is known."""
        return None if self.steps is None else self.steps * self.step_seconds / 3600


def estimate(family: Family, config: TrimsConfig, n_examples: int | None, machine: Machine) -> Estimate:
    """What one adapter of this configuration takes, or one checkpoint where every weight is trained: of the
    variant whose method makes most passes over a batch.

    Every pass is counted with its way back, those without gradient too.

    Args:
        n_examples: examples in the buckets; None where they are not known yet.
    Raises:
        ConfigError: a LoRA target, DeepSpeed or host file that cannot be used.
    """
    variant = max(config.train.variants.values(), key=lambda variant: variant.passes)
    train, student, passes = shared_settings(config.train, variant), config.student, variant.passes
    counts = count_parameters(family, train.lora)
    n_processes = count_processes(train.launch)
    deepspeed = deepspeed_settings(config.train.deepspeed)
    check_trainable(train, deepspeed)
    stage = zero_stage(deepspeed)
    flops = passes * _step_flops(family, counts, train)
    steps = train.max_steps
    if isinstance(variant, RoundsVariant):
        steps = variant.rounds * variant.inner_steps
    elif n_examples is not None or train.max_forwards is not None:
        n_trained = (n_examples or 0) - count_held_out(n_examples or 0, train.validation_fraction)
        steps = count_steps(train, n_trained, passes)
    return Estimate(
        counts=counts,
        weights_gib=_weight_bytes(counts, student) / (n_processes if stage == 3 else 1) / _GIB,
        trained_gib=_trained_bytes(counts, student, stage, n_processes) / _GIB,
        activations_gib=_activation_bytes(family, train, student) / _GIB,
        head_gib=_head_bytes(family, train, student) / _GIB,
        step_seconds=flops / (n_processes * machine.peak_flops * machine.share),
        steps=steps,
        batch_size=train.batch_size,
        processes=n_processes,
        machine=machine,
    )


def count_parameters(family: Family, lora: LoraSettings | None) -> Counts:
    """Parameters of a family's modules, and of LoRA on the chosen linear ones (none: no adapters)."""
    c = family.hf_config()
    h, n_layers, vocab = c["hidden_size"], c["num_hidden_layers"], c["vocab_size"]
    shapes = _linear_shapes(family)
    linear = n_layers * sum(n_in * n_out for n_in, n_out in shapes.values())
    biases = n_layers * (h + 2 * _kv_width(c)) if family.name == "dream" else 0
    norms = (2 * n_layers + 1) * h
    heads = vocab * h * (1 if c["tie_word_embeddings"] else 2)
    adapters = 0
    if lora is not None:
        chosen = re.compile(family.lora_targets(lora.targets))
        adapters = n_layers * sum(
            lora.r * (n_in + n_out)
            for path, (n_in, n_out) in shapes.items()
            if chosen.fullmatch(f"model.layers.0.{path}")
        )
    return Counts(linear + biases + norms + heads, linear, vocab * h, adapters)


def _linear_shapes(family: Family) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of a layer's linear modules by their Hugging Face paths."""
    c = family.hf_config()
    h, m, v = c["hidden_size"], c["intermediate_size"], _kv_width(c)
    return {
        "self_attn.q_proj": (h, h),
        "self_attn.k_proj": (h, v),
        "self_attn.v_proj": (h, v),
        "self_attn.o_proj": (h, h),
        "mlp.gate_proj": (h, m),
        "mlp.up_proj": (h, m),
        "mlp.down_proj": (m, h),
    }


def _kv_width(c: dict[str, Any]) -> int:
    return int(c["hidden_size"] // c["num_attention_heads"] * c["num_key_value_heads"])


def _weight_bytes(counts: Counts, student: StudentConfig) -> float:
    size = _BYTES[student.dtype]
    if student.load_in_4bit:
        return counts.linear * _NF4_BYTES + (counts.total - counts.linear) * size
    return counts.total * size


def _trained_bytes(counts: Counts, student: StudentConfig, stage: int, n_processes: int) -> float:
    """Gradients in the working type; in float32 ZeRO's copy of the weights, whatever their type, and Adam's
    two moments. Of adapters the weights too; all weights are counted elsewhere."""
    size = _BYTES[student.dtype]
    states = 12.0
    weights = size / (n_processes if stage == 3 else 1) if counts.adapters else 0.0
    gradients = size / (n_processes if stage >= 2 else 1)
    return (counts.adapters or counts.total) * (
        weights + gradients + states / (n_processes if stage >= 1 else 1)
    )


def _activation_bytes(family: Family, train: TrainingConfig, student: StudentConfig) -> float:
    """What the backward pass keeps of one micro-batch.

    Per token and layer, with size a of the working type: two norms keep their float32 input (8h); attention
    keeps queries, repeated keys and values, and its output (4ah); the gated MLP keeps gate, its activation
    and up (3am); frozen linear modules keep nothing, but LoRA keeps its dropped-out input and the mask (one
    byte on a GPU), for six inputs of h and one of m ((a+1)(6h+m); shared inputs and no mask without dropout).
    """
    c = family.hf_config()
    h, m, a = c["hidden_size"], c["intermediate_size"], _BYTES[student.dtype]
    inputs = (a + 1) * (6 * h + m) if train.lora and train.lora.dropout else a * (3 * h + m)
    per_token = 8 * h + 4 * a * h + 3 * a * m + inputs
    tokens, n_layers = train.micro_batch_size * train.max_length, c["num_hidden_layers"]
    if train.gradient_checkpointing:
        # each layer's input, and one layer at a time in full
        return float(tokens * (n_layers * a * h + per_token))
    return float(tokens * n_layers * per_token)


def _head_bytes(family: Family, train: TrainingConfig, student: StudentConfig) -> float:
    """A chunk of float32 logits with its copy in the working type, hidden states and their gradient."""
    c, a = family.hf_config(), _BYTES[student.dtype]
    rows = _MASKED_SHARE * train.micro_batch_size * train.max_length
    chunk = min(_HEAD_CHUNK_BYTES, rows * c["vocab_size"] * 4)
    return float(chunk * (1 + (a / 4 if a < 4 else 0)) + 2 * rows * c["hidden_size"] * a)


def _step_flops(family: Family, counts: Counts, train: TrainingConfig) -> float:
    """Matrix products of one optimizer step: forward once, backward to the inputs once, adapters three times;
    without adapters, backward to the weights once; checkpointing adds a forward of the layers."""
    c = family.hf_config()
    forward = 2 * counts.linear + 4 * train.max_length * c["hidden_size"] * c["num_hidden_layers"]
    attention_backward = 4 * train.max_length * c["hidden_size"] * c["num_hidden_layers"]
    to_weights = 0 if train.lora else 2 * counts.linear
    layers = (3 if train.gradient_checkpointing else 2) * forward + attention_backward + to_weights
    head = (2 if train.lora else 3) * 2 * counts.head * _MASKED_SHARE
    return float(train.batch_size * train.max_length * (layers + head + 6 * counts.adapters))


def machine_of(student: StudentConfig) -> Machine:
    """What the student will run on as far as can be said without torch: an A100 stands for any GPU."""
    if has_gpu() if student.device == "auto" else student.device != "cpu":
        return Machine("A100", 312e12 if student.dtype != "float32" else 19.5e12)
    # two 8-wide fused multiply-adds per cycle at 3 GHz
    return Machine("CPU core", 96e9 * len(os.sched_getaffinity(0)))


def describe(config: TrimsConfig, n_examples: int | None) -> list[str]:
    """Lines for a reader: what training one model takes, or why that cannot be said."""
    try:
        found = estimate(_family(config.student), config, n_examples, machine_of(config.student))
    except TrimsError as error:
        return [f"train: no estimate: {error}"]
    machine, adapters = found.machine, found.counts.adapters
    trained = "adapters and optimizer" if adapters else "gradients and optimizer of all weights"
    time = f"{found.step_seconds:.3g} s per step of {found.batch_size} × {config.train.max_length} tokens"
    if found.hours is not None:
        time += (
            f", {found.steps} steps, {_duration(found.hours)} per {'adapter' if adapters else 'checkpoint'}"
        )
    return [
        f"train, estimated for each of {found.processes} process(es): {found.total_gib:.1f} GiB"
        f" (weights {found.weights_gib:.1f}, {trained} {found.trained_gib:.1f},"
        f" activations {found.activations_gib:.1f}, head {found.head_gib:.1f})",
        f"train, estimated time at most: {time}"
        f" (at {machine.share:.0%} of {machine.peak_flops / 1e12:g} TFLOP/s per process: {machine.name})",
    ]


def _family(student: StudentConfig) -> Family:
    return read_family(checkpoint_folder(student.model, student.revision, _SMALL_FILES), student.family)


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
