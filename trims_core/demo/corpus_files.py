"""The demo's two JSONL files: a fine-tuning set with worked answers, and held-out problems."""

import json
import logging
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trims_core.demo.problems import Group, Problem, draw_problem
from trims_core.demo.wordings import worked_answer

logger = logging.getLogger(__name__)

DEFAULT_SEED = 7
N_TRAIN = 2000
N_TEST = 1200
TRAIN_NAME = "train.jsonl"
TEST_NAME = "test.jsonl"


def _distinct_problems(rng: random.Random, group: Group, count: int) -> Iterator[Problem]:
    """Problems of one group whose questions all differ."""
    seen: set[str] = set()
    while len(seen) < count:
        problem = draw_problem(rng, group)
        if problem.question not in seen:
            seen.add(problem.question)
            yield problem


def train_rows(seed: int, count: int = N_TRAIN) -> Iterator[dict[str, Any]]:
    """Fine-tuning examples in the style "tuned": id and messages (question, worked answer)."""
    rng = random.Random(f"{seed}/fine-tuning set")
    for number, problem in enumerate(_distinct_problems(rng, "fine-tuning", count)):
        messages = [
            {"role": "user", "content": problem.question},
            {"role": "assistant", "content": worked_answer(rng, problem, "tuned")},
        ]
        yield {"id": f"train-{number:05d}", "messages": messages}


def test_rows(seed: int, count: int = N_TEST) -> Iterator[dict[str, Any]]:
    """Held-out problems: id, question and the final number as a string."""
    rng = random.Random(f"{seed}/held-out set")
    for number, problem in enumerate(_distinct_problems(rng, "held-out", count)):
        yield {"id": f"test-{number:05d}", "question": problem.question, "answer": str(problem.answer)}


def write_corpus(out_dir: Path, seed: int = DEFAULT_SEED) -> dict[str, Path]:
    """Writes train.jsonl and test.jsonl, the same bytes for the same seed; gives back their paths by name."""
    out_dir.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    for name, rows in ((TRAIN_NAME, train_rows(seed)), (TEST_NAME, test_rows(seed))):
        written[name] = _write_jsonl(out_dir / name, rows)
        logger.info("wrote %s", written[name])
    return written


def _write_jsonl(path: Path, rows: Iterator[Mapping[str, object]]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path
