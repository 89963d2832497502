"""GSM8K's grading: the number behind the last "####"; without the mark the last number."""

from __future__ import annotations

from pathlib import Path

import pytest

from trims_core.benchmarks import get_benchmark, get_grader
from trims_core.sweep_sections import TaskConfig

GSM8K, GRADER = get_benchmark("gsm8k"), get_grader("gsm8k_number")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2 + 2 = 4\n#### 4", "4"),
        ("#### 1,234", "1234"),
        ("#### $18.00", "18"),
        ("#### -10", "-10"),
        ("#### 5 apples, not 6", "5"),
        ("#### 3\n#### 4", "4"),
        ("#### none, so 7", None),
        ("7 ####", None),
        ("The answer is 7, or rather 8.", "8"),
        ("It costs $2.50.", "2.5"),
        ("No number.", None),
        ("0.50 of it", "0.5"),
        ("-0", "0"),
    ],
)
def test_the_answer_is_behind_the_mark_else_the_last_number(text: str, answer: str | None) -> None:
    assert GRADER.extract(text) == answer


@pytest.mark.parametrize(("split", "n", "first"), [("test", 1319, "18"), ("train", 7473, "72")])
def test_every_published_row_has_a_gold_number(shared_data: Path, split: str, n: int, first: str) -> None:
    task = TaskConfig(benchmark="gsm8k", path=str(shared_data / f"data/gsm8k/{split}.jsonl.gz"))
    problems = GSM8K.load(task)
    assert len(problems) == len({problem.id for problem in problems}) == n
    assert problems[0].gold == first
    assert all(problem.gold.lstrip("-").isdigit() for problem in problems)


def test_every_worked_answer_is_graded_right(shared_data: Path) -> None:
    import gzip
    import json

    path = shared_data / "data/gsm8k/test.jsonl.gz"
    problems = GSM8K.load(TaskConfig(benchmark="gsm8k", path=str(path)))
    with gzip.open(path, "rt", encoding="utf-8") as file:
        answers = [json.loads(line)["answer"] for line in file]
    assert all(GRADER.is_right(a, p.gold) for a, p in zip(answers, problems, strict=True))
    shifted = [GRADER.is_right(a, p.gold) for a, p in zip(answers[1:], problems, strict=False)]
    assert sum(shifted) < 0.1 * len(shifted)


def test_without_a_path_the_hub_data_set_is_meant() -> None:
    source = GSM8K.source(TaskConfig(benchmark="gsm8k"))
    assert (source.path, source.hub, source.hub_config, source.split) == (
        None,
        "openai/gsm8k",
        "main",
        "test",
    )
