"""Tokens per second of our canvas loop against a restatement of the published one: one JSON line per case.

usage: python bench/decode.py [--quick] [--runs N] [--threads N] [--shape llada-8b --device cuda --dtype …]
The claims, in float32 on a CPU, 8 layers of 512 with the real head of 126,464 rows, prompt 100, block 32, at
batch 1: at least 3 times the tokens/s of the restated loop without a cache, 1.5 times with prefix and dual
cache; with a cache at batch 8 at least 1.2 times the tokens/s of our own batch 1. (Without one a single
sequence already keeps a core busy: reported, not claimed.)

The baseline is Fast-dLLM's loop: the head over every position fed, a float64 softmax over the vocabulary. It
runs on our network and writes into our cache, so only the loop differs; tokens and forwards must be equal.
Runs of both alternate. Every case reveals `--per-forward` tokens at each forward.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch

from trims_core.decoding import CACHES, DecodeSettings, TopK, decode
from trims_core.decoding.caches import Feed, KeyValueStore
from trims_core.students import Student
from trims_core.students.shapes import random_student

LIMITS = {"none": 3.0, "prefix": 1.5, "dual": 1.5}
BATCH_LIMITS = {"none": 1.0, "prefix": 1.2, "dual": 1.2}
BLOCK = 32
Answer = TypeVar("Answer")


def main() -> int:
    """0 if every claim holds."""
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    student = _student(options)
    print(json.dumps({"bench": "decode", "machine": platform.processor(), **vars(options)}), file=sys.stderr)
    holds = True
    for canvas in options.canvas:
        for cache in options.caches:
            holds &= _against_published(student, canvas, cache, options)
            holds &= _batched(student, canvas, cache, options)
    return 0 if holds else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny student: for a test of this script")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="0: leave torch's number")
    parser.add_argument("--canvas", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--caches", nargs="+", choices=tuple(LIMITS), default=list(LIMITS))
    parser.add_argument("--prompt", type=int, default=100)
    parser.add_argument("--per-forward", type=int, default=4)
    parser.add_argument("--batches", type=int, nargs="*", default=[8])
    parser.add_argument("--shape", default="", help="a published shape with its full sizes, e.g. llada-8b")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def _student(options: argparse.Namespace) -> Student:
    if options.shape:
        return random_student(options.shape, dtype=options.dtype, device=options.device)
    if options.quick:
        return random_student("llada-8b", n_layers=1, width=128, mlp_width=128)
    return random_student("llada-8b", n_layers=8, width=512, mlp_width=1536)


def _prompts(count: int, length: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(1000, 100_000, (count, length), generator=generator).tolist()


def _against_published(student: Student, canvas: int, cache: str, options: argparse.Namespace) -> bool:
    """Our loop and the restated one at batch 1, alternating."""
    (prompt,) = _prompts(1, options.prompt)
    settings = DecodeSettings(TopK(canvas // options.per_forward), canvas, BLOCK, False, 1, CACHES[cache])
    ours_s, theirs_s = [], []
    for _ in range(options.runs):
        seconds, (decoded,) = _timed(lambda: decode(student, [prompt], settings), student)
        ours_s.append(seconds)
        seconds, (tokens, n_forwards) = _timed(
            lambda: published(student, prompt, canvas, options.per_forward, cache), student
        )
        theirs_s.append(seconds)
        if tokens != decoded.token_ids or n_forwards != decoded.n_forwards:
            sys.stderr.write(f"canvas {canvas}, cache {cache}: the two loops differ\n")
            return False
    ratios = [theirs / ours for ours, theirs in zip(ours_s, theirs_s, strict=True)]
    _print(
        case="batch 1 against the restated published loop",
        canvas=canvas,
        cache=cache,
        forwards=decoded.n_forwards,
        n=options.runs,
        tokens_per_second=round(canvas / statistics.median(ours_s), 2),
        seconds_per_forward=round(statistics.median(ours_s) / decoded.n_forwards, 4),
        published_tokens_per_second=round(canvas / statistics.median(theirs_s), 2),
        published_seconds_per_forward=round(statistics.median(theirs_s) / decoded.n_forwards, 4),
        ratio=round(statistics.median(ratios), 2),
        ratio_min=round(min(ratios), 2),
        ratio_max=round(max(ratios), 2),
        limit=LIMITS[cache],
    )
    return statistics.median(ratios) >= LIMITS[cache]


def _batched(student: Student, canvas: int, cache: str, options: argparse.Namespace) -> bool:
    """Our loop with several sequences together against one after another."""
    holds = True
    for size in options.batches:
        prompts = _prompts(size, options.prompt)
        rule = TopK(canvas // options.per_forward)
        one = DecodeSettings(rule, canvas, BLOCK, False, 1, CACHES[cache])
        many = DecodeSettings(rule, canvas, BLOCK, False, size, CACHES[cache])
        alone_s, together_s = [], []
        for _ in range(options.runs):
            alone_s.append(size * _timed(partial(decode, student, prompts[:1], one), student)[0])
            together_s.append(_timed(partial(decode, student, prompts, many), student)[0])
        ratios = [alone / together for alone, together in zip(alone_s, together_s, strict=True)]
        _print(
            case=f"batch {size} against batch 1",
            canvas=canvas,
            cache=cache,
            n=options.runs,
            tokens_per_second=round(size * canvas / statistics.median(together_s), 2),
            ratio=round(statistics.median(ratios), 2),
            ratio_min=round(min(ratios), 2),
            ratio_max=round(max(ratios), 2),
            limit=BATCH_LIMITS[cache],
        )
        holds &= statistics.median(ratios) >= BATCH_LIMITS[cache]
    return holds


def published(
    student: Student, prompt: list[int], gen_length: int, per_forward: int, cache: str
) -> tuple[list[int], int]:
    """Fast-dLLM's top-k loop at batch 1 as published: canvas token ids and forwards."""
    device = next(student.model.parameters()).device
    mask_id = student.family.mask_id
    ids_1L = torch.tensor([prompt + [mask_id] * gen_length], device=device)
    width = ids_1L.shape[1]
    n_forwards = 0
    with torch.inference_mode():
        for start in range(len(prompt), width, BLOCK):
            end = start + BLOCK
            store = None if cache == "none" else KeyValueStore()
            fed = (0, width)
            while bool((ids_1L[0, start:end] == mask_id).any()):
                columns_1Q = torch.arange(*fed, device=device)[None]
                if store is not None:
                    store.aim(Feed(None, fed[0], columns_1Q), 1, width)
                hidden_1QD = student.hidden(ids_1L[:, fed[0] : fed[1]], columns_1Q, None, store)
                _reveal(
                    student.head(hidden_1QD), ids_1L[:, fed[0] : fed[1]], end - fed[0], per_forward, mask_id
                )
                n_forwards += 1
                if cache != "none":
                    fed = (start, width) if cache == "prefix" else (start, end)
    return ids_1L[0, len(prompt) :].tolist(), n_forwards


def _reveal(logits_1QV: torch.Tensor, ids_1Q: torch.Tensor, end: int, per_forward: int, mask_id: int) -> None:
    """Put the most confident tokens before `end` in place; confidences by a float64 softmax everywhere."""
    token_1Q = logits_1QV.argmax(dim=-1)
    probability_1QV = torch.softmax(logits_1QV.double(), dim=-1)
    confidence_1Q = probability_1QV.gather(-1, token_1Q[..., None])[..., 0]
    hidden_1Q = ids_1Q == mask_id
    hidden_1Q[:, end:] = False
    confidence_1Q = torch.where(hidden_1Q, confidence_1Q, -torch.inf)
    chosen_1K = confidence_1Q.topk(per_forward, dim=-1).indices
    ids_1Q.scatter_(1, chosen_1K, token_1Q.gather(1, chosen_1K))


def _timed(work: Callable[[], Answer], student: Student) -> tuple[float, Answer]:
    on_gpu = next(student.model.parameters()).device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = work()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


def _print(**values: object) -> None:
    print(json.dumps({"bench": "decode", **values}), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
