"""Dead columns and useful tokens per second of training batches, against 230b1b7's padding: one JSON line.

usage: python bench/padding.py [--max-length N] [--steps N] [--quick]
The claims: on lengths like those of reasoning traces, with supervised ends on, at most 10 % of the columns
that are fed are dead (neither attended nor trained on), and at least twice as many tokens of prompts and
answers pass per second as with the padding of commit 230b1b7: every sequence filled with supervised ends up
to the longest of its global batch, batches shuffled. Lengths are drawn from the quantiles of 125
chain-of-thought answers (Marco-o1's demonstration data in Qwen3 tokens, prompt included). Columns are counted
over three epochs of 1,000 examples; time over some steps of a small student, the two sides taking turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import methods
import numpy as np
from train_step import Shape, new_student

DEAD_LIMIT = 0.1
SPEED_LIMIT = 2.0
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
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the lengths: does it run?")
    options = parser.parse_args()
    shrink = 10 if options.quick else 1
    lengths = drawn_lengths(options.max_length, shrink)
    longest = options.max_length // shrink
    n_steps = -(-N_EPOCHS * N_EXAMPLES // BATCH)
    ours = [schedule(lengths, longest, n_steps, ends=True).step(step) for step in range(n_steps)]
    shuffled = schedule(lengths, longest, n_steps, ends=False)
    before = [padded_as_before(shuffled.step(step), lengths) for step in range(n_steps)]
    dead, useful = _shares(ours, lengths)
    _, useful_before = _shares(before, lengths)
    speeds = _tokens_per_second(ours, before, lengths, 1 if options.quick else options.steps)
    ratios = [mine / theirs for mine, theirs in speeds]
    found = {
        "bench": "padding",
        "max_length": longest,
        "n": len(speeds),
        "dead_columns": round(dead, 4),
        "dead_limit": DEAD_LIMIT,
        "useful_columns": round(useful, 4),
        "useful_columns_230b1b7": round(useful_before, 4),
        "tokens_per_second": round(statistics.median(mine for mine, _ in speeds)),
        "tokens_per_second_230b1b7": round(statistics.median(theirs for _, theirs in speeds)),
        "speed_ratio": round(statistics.median(ratios), 2),
        "speed_ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "speed_limit": SPEED_LIMIT,
    }
    print(json.dumps(found))
    is_fast = statistics.median(ratios) >= SPEED_LIMIT
    return 0 if dead <= DEAD_LIMIT and (options.quick or is_fast) else 1


def drawn_lengths(max_length: int, shrink: int) -> Any:
    """Lengths of N_EXAMPLES sequences, truncated to max_length, then divided by `shrink`."""
    uniform = np.random.default_rng(0).random(N_EXAMPLES)
    drawn = np.interp(uniform, np.linspace(0, 1, len(QUANTILES)), QUANTILES).astype(np.int64)
    return np.minimum(drawn, max_length) // shrink


def schedule(lengths: Any, max_length: int, n_steps: int, *, ends: bool) -> Any:
    """The training's own schedule with its defaults; without ends: shuffled, as 230b1b7 drew it."""
    from trims_core.config import TrainConfig
    from trims_core.training.plan import Padding, Schedule

    config = TrainConfig(batch_size=BATCH, micro_batch_size=MICRO_BATCH)
    return Schedule(
        [f"example-{i}" for i in range(len(lengths))],
        _prompts(lengths),
        lengths,
        np.ones(len(lengths), np.bool_),
        range(len(lengths)),
        seed=0,
        batch_size=BATCH,
        micro_batch_size=MICRO_BATCH,
        padding=Padding(config.end_tokens if ends else 0, 1, max_length),
        n_steps=n_steps,
        window=config.window if ends else 1,
    )


def padded_as_before(parts: Sequence[Any], lengths: Any) -> list[Any]:
    """A step with every sequence filled with supervised ends up to the longest of the global batch."""
    entries = [entry for part in parts for entry in part.entries]
    longest = max(int(lengths[entry.example]) for entry in entries)
    return [
        replace(
            part,
            pad_to=longest,
            entries=tuple(replace(e, n_ends=longest - int(lengths[e.example])) for e in part.entries),
        )
        for part in parts
    ]


def _prompts(lengths: Any) -> Any:
    return np.minimum(PROMPT, lengths // 4)


def _shares(steps: Sequence[Sequence[Any]], lengths: Any) -> tuple[float, float]:
    """Of what is fed: the share of dead columns, and that of tokens of prompts and answers."""
    parts = [part for step in steps for part in step]
    n_fed = sum(part.pad_to * len(part.entries) for part in parts)
    n_tokens = sum(_n_tokens(part, lengths) for part in parts)
    n_ends = sum(entry.n_ends for part in parts for entry in part.entries)
    return 1.0 - (n_tokens + n_ends) / n_fed, n_tokens / n_fed


def _n_tokens(part: Any, lengths: Any) -> int:
    return sum(int(lengths[entry.example]) for entry in part.entries)


def _tokens_per_second(
    ours: Sequence[Sequence[Any]], before: Sequence[Sequence[Any]], lengths: Any, n_steps: int
) -> list[tuple[float, float]]:
    """Per step: tokens of prompts and answers per second of forward and backward, on both sides."""
    from trims_core.training.examples import Examples
    from trims_core.training.sequences import gather
    from trims_core.training.student import Denoiser, TrainedStudent
    from trims_core.variants import TrimsVariant

    shape = Shape(vocab=8192, layers=2, hidden=128)
    model, family = new_student(shape)
    prompts, generator = _prompts(lengths), np.random.default_rng(1)
    examples = Examples(
        ids=[f"example-{i}" for i in range(len(lengths))],
        input_ids=[generator.integers(0, shape.vocab - 2, n) for n in lengths],
        prompt_lengths=prompts,
        lengths=lengths,
        ends_in_turn=np.ones(len(lengths), np.bool_),
        buckets=[
            generator.integers(1, 9, n - p).astype(np.uint8) for n, p in zip(lengths, prompts, strict=True)
        ],
        n_buckets=8,
        n_truncated=0,
        n_without_completion=0,
    )
    method = methods.build(TrimsVariant(), family)
    denoiser = Denoiser(model, family)
    student = TrainedStudent(denoiser, denoiser)

    def seconds(parts: Sequence[Any]) -> float:
        start = time.perf_counter()
        for part in parts:
            sequences = gather(examples, part, pad_id=family.eos_id, seed=0, hide_end_of_turn=False)
            batch = method.batch(sequences)
            for loss in method.losses(student, batch, methods.totals(batch)):
                loss.total.backward()
        model.zero_grad(set_to_none=True)
        return time.perf_counter() - start

    seconds(ours[0][:1])
    return [
        tuple(sum(_n_tokens(part, lengths) for part in parts) / seconds(parts) for parts in sides)
        for sides in zip(ours[:n_steps], before[:n_steps], strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())
