"""The demo's grading: only the last complete "The answer is N." counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trims_core.benchmarks import get_benchmark, get_grader
from trims_core.errors import CorpusError
from trims_core.sweep_sections import TaskConfig

DEMO, GRADER = get_benchmark("demo"), get_grader("last_answer_sentence")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 + 4 = 7. The answer is 7.", "7"),
        ("The answer is 7. No: The answer is 8.", "8"),
        ("The answer is 1,234.", "1234"),
        ("The answer is -3.", "-3"),
        ("The answer is 2.50.", "2.5"),
        ("The answer is 007.", "7"),
        ("The answer is 7", None),
        ("The answer is seven.", None),
        ("So it is 7.", None),
        ("The answer is .", None),
        ("", None),
    ],
)
def test_the_answer_is_the_number_of_the_last_complete_sentence(text: str, answer: str | None) -> None:
    assert GRADER.extract(text) == answer


def test_right_means_equal_numbers() -> None:
    assert GRADER.is_right("The answer is 12.", "12")
    assert not GRADER.is_right("The answer is 112.", "12")
    assert not GRADER.is_right("12", "12")


def test_an_endless_number_is_an_answer_and_no_crash() -> None:
    assert GRADER.extract(f"The answer is {'1' * 9000}.") == "1" * 9000


def test_rows_become_problems_with_a_user_message_and_the_gold_number(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    rows = [{"id": f"p{i}", "question": f"Q{i}?", "answer": f"So. The answer is {i}."} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = DEMO.load(TaskConfig(benchmark="demo", path=str(path), limit=2))
    assert [(p.id, p.messages, p.gold) for p in problems] == [
        ("p0", ({"role": "user", "content": "Q0?"},), "0"),
        ("p1", ({"role": "user", "content": "Q1?"},), "1"),
    ]


def test_the_gold_answer_may_be_the_number_alone(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text('{"question": "Q?", "answer": "1,036"}\n')
    assert [p.gold for p in DEMO.load(TaskConfig(benchmark="demo", path=str(path)))] == ["1036"]


def test_the_shipped_problems_can_all_be_graded(project_root: Path) -> None:
    problems = DEMO.load(TaskConfig(benchmark="demo"))
    assert len(problems) >= 200
    assert all(GRADER.is_right(f"The answer is {problem.gold}.", problem.gold) for problem in problems)


def test_a_row_without_the_sentence_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(
        '{"question": "Q?", "answer": "The answer is 1."}\n\n{"question": "Q?", "answer": "one"}\n'
    )
    with pytest.raises(CorpusError, match=r"test\.jsonl:3: 'answer' is 'one'; expected a number"):
        DEMO.load(TaskConfig(benchmark="demo", path=str(path)))
