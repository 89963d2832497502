"""Padding and tokens per second of batches grouped by length, against padding to max_length: one JSON line.

usage: python bench/padding.py [--max-length N] [--steps N] [--quick]
The claims: on lengths like those of reasoning traces at most 10 % of what is fed are pads, and more trained
tokens pass per second than with every sequence padded to max_length. Lengths are drawn from the quantiles of
125 chain-of-thought answers (Marco-o1's demonstration data in Qwen3 tokens, prompt included). Padding is
counted over three epochs of 1,000 examples; time over some steps of a small student, the two taking turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from train_step import Shape, new_student

PADDING_LIMIT = 0.1
QUANTILES: Final = (
    *(248, 378, 429, 484, 528, 552, 588, 642, 670, 694, 762),
    *(814, 891, 942, 1049, 1166, 1226, 1405, 1451, 1593, 3904),
)
"""Tokens of prompt and answer at 0 %, 5 %, …, 100 %."""
PROMPT: Final = 50
BATCH, MICRO_BATCH, N_EXAMPLES, N_EPOCHS = 32, 4, 1000, 3


def main() -> int:
    """0 if the claims hold; --quick does not judge speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a tenth of the lengths: does it run?")
    options = parser.parse_args()
    shrink = 10 if options.quick else 1
    lengths = drawn_lengths(options.max_length, shrink)
    steps = -(-N_EPOCHS * N_EXAMPLES // BATCH)
    grouped, plain = (schedule(lengths, options.max_length, steps, window) for window in (16, 1))
    longest = options.max_length // shrink
    shares = {
        "grouped_padding": _padding(grouped, lengths, steps),
        "shuffled_padding": _padding(plain, lengths, steps),
        "max_length_padding": 1.0 - float(lengths.mean()) / longest,
    }
    mine, theirs = _tokens_per_second(grouped, lengths, longest, options.steps)
    found = {
        "bench": "padding",
        "max_length": longest,
        "n": options.steps * BATCH,
        **{name: round(share, 4) for name, share in shares.items()},
        "padding_limit": PADDING_LIMIT,
        "tokens_per_second": round(mine),
        "max_length_tokens_per_second": round(theirs),
        "speed_ratio": round(mine / theirs, 2),
    }
    print(json.dumps(found))
    return 0 if shares["grouped_padding"] <= PADDING_LIMIT and (options.quick or mine > theirs) else 1


def drawn_lengths(max_length: int, shrink: int) -> Any:
    """Lengths of N_EXAMPLES sequences, truncated to max_length, then divided by `shrink`."""
    uniform = np.random.default_rng(0).random(N_EXAMPLES)
    drawn = np.interp(uniform, np.linspace(0, 1, len(QUANTILES)), QUANTILES).astype(np.int64)
    return np.minimum(drawn, max_length) // shrink


def schedule(lengths: Any, max_length: int, steps: int, window: int) -> Any:
    """The training's own schedule over sequences of these lengths; pads are not trained on."""
    from trims_core.training.plan import Padding, Schedule

    return Schedule(
        [f"example-{i}" for i in range(len(lengths))],
        _prompts(lengths),
        lengths,
        range(len(lengths)),
        seed=0,
        batch_size=BATCH,
        micro_batch_size=MICRO_BATCH,
        padding=Padding(False, 1, max_length),
        n_steps=steps,
        window=window,
    )


def _prompts(lengths: Any) -> Any:
    return np.minimum(PROMPT, lengths // 4)


def _padding(plan: Any, lengths: Any, steps: int) -> float:
    """Share of pads in what is fed."""
    parts = [part for step in range(steps) for part in plan.step(step)]
    n_fed = sum(part.pad_to * len(part.entries) for part in parts)
    return 1.0 - sum(_n_tokens(part, lengths) for part in parts) / n_fed


def _n_tokens(part: Any, lengths: Any) -> int:
    return sum(int(lengths[entry.example]) for entry in part.entries)


def _tokens_per_second(plan: Any, lengths: Any, longest: int, steps: int) -> tuple[float, float]:
    """Tokens that are no pads, per second of forward and backward: as scheduled, and padded to `longest`."""
    from trims_core.config import TrainConfig, VariantConfig
    from trims_core.training.data import Examples, MaskedExamples
    from trims_core.training.loss import MaskedDenoiser

    shape = Shape(vocab=8192, layers=2, hidden=128)
    model, family = new_student(shape)
    prompts, generator = _prompts(lengths), np.random.default_rng(1)
    examples = Examples(
        ids=[f"example-{i}" for i in range(len(lengths))],
        input_ids=[generator.integers(0, shape.vocab - 2, n) for n in lengths],
        prompt_lengths=prompts,
        lengths=lengths,
        buckets=[
            generator.integers(1, 9, n - p).astype(np.uint8) for n, p in zip(lengths, prompts, strict=True)
        ],
        n_buckets=8,
        n_truncated=0,
        n_without_completion=0,
    )
    config = TrainConfig(supervise_padding=False)
    dataset = MaskedExamples(
        examples, config, VariantConfig(), 0, mask_id=family.mask_id, pad_id=family.eos_id
    )
    denoiser = MaskedDenoiser(model, family)
    _seconds(denoiser, dataset, plan.step(0)[:1])
    mine = theirs = n_tokens = 0.0
    for step in range(steps):
        parts = plan.step(step)
        n_tokens += sum(_n_tokens(part, lengths) for part in parts)
        mine += _seconds(denoiser, dataset, parts)
        theirs += _seconds(denoiser, dataset, [replace(part, pad_to=longest) for part in parts])
    return n_tokens / mine, n_tokens / theirs


def _seconds(denoiser: Any, dataset: Any, parts: Sequence[Any]) -> float:
    from trims_core.training.loss import denoising_loss

    start = time.perf_counter()
    for part in parts:
        denoising_loss(denoiser, dataset[part].tensors()).backward()
    denoiser.zero_grad(set_to_none=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
