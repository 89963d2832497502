"""Alignment of teacher scores to student tokens: alone, and with the tokenizing it goes with. One JSON line.

usage: python bench/alignment.py [--rows N] [--runs R] [--quick]

Rows are four of the demo's answers (about 200 student tokens); teacher and student are the demo's tokenizers.

- Alone: `align_rows` on 256 rows at a time, as the stage calls it, against loops in Python: in `overlaps`
  each student token asks every teacher token of its row how many bytes they share (the first 256 rows),
  `bytewise` sums values of bytes, `two_pointers` walks both tokenizations once, the best a loop can do.
  Claims: 2 million student tokens per CPU second, and 30 times `overlaps`; the others are told beside it.
- Tokenizing and aligning (ids, byte offsets checked against the text, difficulties) against the tokenizer's
  own `encode_batch` of the same texts on the same threads. Claim: at least 0.75 of its speed (wall).

Runs are interleaved, ratios taken run by run, medians count. Values are compared with the loops'.
Exit code 1 where a claim does not hold. --quick: few rows, and only the fields are the claim.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

PROJECT_ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT_ROOT))
ROWS_AT_ONCE: Final = 256
BARS: Final = {"million_tokens_per_cpu_s": 2.0, "ratio_overlaps": 30.0, "ratio_encode_batch": 0.75}


def overlaps(teacher_end: Sequence[int], values: Sequence[float], student_end: Sequence[int]) -> list[float]:
    """For each student token the sum over all teacher tokens of their share."""
    found, start = [], 0
    for end in student_end:
        total, t_start = 0.0, 0
        for t_end, value in zip(teacher_end, values, strict=True):
            shared = min(end, t_end) - max(start, t_start)
            if shared > 0:
                total += value * shared / (t_end - t_start)
            t_start = t_end
        found.append(total)
        start = end
    found[-1] += values[-1]  # end of turn
    return found


def bytewise(teacher_end: Sequence[int], values: Sequence[float], student_end: Sequence[int]) -> list[float]:
    """For each student token the sum over its bytes."""
    per_byte: list[float] = []
    start = 0
    for end, value in zip(teacher_end, values, strict=True):
        per_byte.extend(value / (end - start) for _ in range(start, end))
        start = end
    found, start = [], 0
    for end in student_end:
        total = 0.0
        for place in range(start, end):
            total += per_byte[place]
        found.append(total)
        start = end
    found[-1] += values[-1]
    return found


def two_pointers(
    teacher_end: Sequence[int], values: Sequence[float], student_end: Sequence[int]
) -> list[float]:
    """For each student token its share of the teacher tokens that it meets on the way."""
    found, t, t_start, start = [], 0, 0, 0
    for end in student_end:
        total = 0.0
        while start < end:
            stop = min(end, teacher_end[t])
            total += values[t] * (stop - start) / (teacher_end[t] - t_start)
            if stop == teacher_end[t]:
                t_start, t = stop, t + 1
            start = stop
        found.append(total)
    found[-1] += values[-1]
    return found


def measure(n_rows: int, runs: int) -> dict[str, Any]:
    """Speeds and ratios."""
    import numpy as np

    from trims_core.alignment import align_rows
    from trims_core.rendering import Renderer, load_tokenizer

    lines = (PROJECT_ROOT / "data/demo/train.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["messages"][1]["content"] for line in lines]
    rng = np.random.default_rng(5)
    texts = [" ".join(answers[i] for i in rng.integers(0, len(answers), 4)) for _ in range(n_rows)]
    names = [str(row) for row in range(n_rows)]
    tokenizer = load_tokenizer(str(PROJECT_ROOT / "data/demo/student"))
    renderers = [
        Renderer(load_tokenizer(str(PROJECT_ROOT / "data/demo/teacher"))),
        Renderer(tokenizer),
    ]
    blocks = []
    for start in range(0, n_rows, ROWS_AT_ONCE):
        some = texts[start : start + ROWS_AT_ONCE]
        teacher, student = (one.completion_rows(some).with_end(one.end_ids) for one in renderers)
        value_T = rng.lognormal(-2.0, 2.0, len(teacher.ids_T)).astype(np.float32).astype(np.float64)
        blocks.append((some, names[start : start + ROWS_AT_ONCE], teacher, value_T, student))
    n_tokens = sum(len(block[-1].ids_T) for block in blocks)
    rows = [
        (
            teacher.byte_end_T[slice(*t)].tolist(),
            value_T[slice(*t)].tolist(),
            student.byte_end_T[slice(*s)].tolist(),
        )
        for _, _, teacher, value_T, student in blocks
        for t, s in zip(
            itertools.pairwise(teacher.offset_R1), itertools.pairwise(student.offset_R1), strict=True
        )
    ]

    def align(student_of: Callable[[Any], Any]) -> list[Any]:
        found = []
        for block in blocks:
            _, ids, teacher, value_T, _ = block
            student = student_of(block)
            sides = (teacher.byte_end_T, value_T, teacher.offset_R1, student.byte_end_T, student.offset_R1)
            found.append(align_rows(*sides, ids))
        return found

    def tokenize(block: Any) -> Any:
        return renderers[1].completion_rows(block[0], block[1]).with_end(renderers[1].end_ids)

    backend = tokenizer.backend_tokenizer
    contenders: dict[str, Callable[[], Any]] = {
        "align": lambda: align(lambda block: block[-1]),
        "overlaps": lambda: [overlaps(*row) for row in rows[:ROWS_AT_ONCE]],
        "bytewise": lambda: [bytewise(*row) for row in rows],
        "two_pointers": lambda: [two_pointers(*row) for row in rows],
        "tokenize_and_align": lambda: align(tokenize),
        "encode_batch": lambda: [backend.encode_batch(b[0], add_special_tokens=False) for b in blocks],
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    results: dict[str, Any] = {}
    for _ in range(runs):
        for name, contender in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            results[name] = contender()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    ours = np.concatenate(results["align"])
    for name in ("overlaps", "bytewise", "two_pointers"):
        slow = list(itertools.chain.from_iterable(results[name]))
        np.testing.assert_allclose(ours[: len(slow)], slow, rtol=1e-9)
    np.testing.assert_array_equal(ours, np.concatenate(results["tokenize_and_align"]))

    def ratio(name: str, other: str, clock: int) -> float:
        pairs = zip(times[name], times[other], strict=True)
        return round(statistics.median(o[clock] / mine[clock] for mine, o in pairs), 2)

    share = len(blocks[0][-1].ids_T) / n_tokens  # that is what `overlaps` looked at
    return {
        "n_tokens": n_tokens,
        "million_tokens_per_cpu_s": round(
            n_tokens / statistics.median(t[1] for t in times["align"]) / 1e6, 2
        ),
        "ratio_overlaps": round(ratio("align", "overlaps", 1) / share, 2),
        "ratio_bytewise": ratio("align", "bytewise", 1),
        "ratio_two_pointers": ratio("align", "two_pointers", 1),
        "ratio_encode_batch": ratio("tokenize_and_align", "encode_batch", 0),
        "ratio_encode_batch_cpu": ratio("tokenize_and_align", "encode_batch", 1),
    }


def main() -> int:
    """0 if the claims hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="64 rows once; only the fields are the claim")
    options = parser.parse_args()
    found = measure(64, 1) if options.quick else measure(options.rows, options.runs)
    broken = [] if options.quick else [name for name, bar in BARS.items() if found[name] < bar]
    print(json.dumps({"bench": "alignment", "runs": options.runs, "bars": BARS, **found, "broken": broken}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
