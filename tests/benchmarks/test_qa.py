"""A benchmark without code: any rows with a question and an answer, and graders by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trims_core.benchmarks import (
    BENCHMARKS,
    GRADERS,
    Benchmark,
    Grader,
    Problem,
    get_benchmark,
    graders_of,
)
from trims_core.errors import CorpusError
from trims_core.raw_rows import Columns, Source, text_in
from trims_core.sweep_sections import TaskConfig


def task_of(tmp_path: Path, *rows: dict[str, Any], **settings: Any) -> TaskConfig:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TaskConfig.model_validate({"benchmark": "qa", "path": str(path), **settings})


def test_rows_and_a_graders_name_are_a_benchmark(tmp_path: Path) -> None:
    rows = ({"id": "a", "question": "1+1?", "answer": "So #### 2"}, {"question": "2+2?", "answer": 4})
    task = task_of(tmp_path, *rows, graders="gsm8k_number")
    one, other = get_benchmark("qa").load(task)
    assert (one.id, one.gold, one.facts) == ("a", "2", {"question": "1+1?"})
    assert (other.id, other.gold, other.messages[0]["content"]) == ("qa-00001", "4", "2+2?")
    (grader,) = graders_of(task)
    assert grader.grade("It is 4", other.gold).verdict == "right"


def test_the_columns_may_have_other_names_and_several_graders_judge(tmp_path: Path) -> None:
    row = {"frage": "x?", "antwort": r"Also \boxed{\frac12}", "answer": "5"}
    names = ["last_box_text", "d1_math"]
    task = task_of(tmp_path, row, question="frage", answer="antwort", graders=names)
    (one,) = get_benchmark("qa").load(task)
    assert (one.facts["question"], one.gold) == ("x?", r"\frac12")
    verdicts = [grader.grade(r"\boxed{1/2}", one.gold).verdict for grader in graders_of(task)]
    assert verdicts == ["wrong", "right"]


def test_puzzles_are_answers_as_well(tmp_path: Path) -> None:
    puzzle = json.dumps({"numbers": [1, 2], "target": 3})
    task = task_of(tmp_path, {"question": "?", "answer": puzzle}, graders="countdown")
    assert [problem.gold for problem in get_benchmark("qa").load(task)] == [puzzle]
    with pytest.raises(CorpusError, match=r"mine\.jsonl:1: .*finds no puzzle.*expected what countdown takes"):
        get_benchmark("qa").load(task_of(tmp_path, {"question": "?", "answer": "3"}, graders="countdown"))


def test_an_answer_that_its_grader_cannot_read_is_named_with_its_line(tmp_path: Path) -> None:
    task = task_of(tmp_path, {"question": "?", "answer": "many"}, graders="number_last_box")
    with pytest.raises(CorpusError, match=r"mine\.jsonl:1: 'answer' is 'many'; expected an answer in which"):
        get_benchmark("qa").load(task)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "benchmark qa has no grader of its own; name one with graders"),
        ({"graders": "number_lst_box"}, "'number_lst_box' is not known; did you mean 'number_last_box'"),
        ({"graders": ["d1_math", "d1_math"]}, "expected each one once"),
        ({"graders": []}, "graders"),
        ({"benchmark": "demo", "answer": "a"}, "answer: read with benchmark: qa alone; demo has columns"),
    ],
)
def test_what_a_task_cannot_mean_is_refused_before_anything_runs(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        task_of(tmp_path, **settings)


def test_graders_are_a_matter_of_grades_and_columns_of_problems(tmp_path: Path) -> None:
    plain = task_of(tmp_path, graders="number_last_box").result_fields()
    assert task_of(tmp_path, graders="d1_math").result_fields() == plain
    assert task_of(tmp_path, graders="d1_math", question="q").result_fields() != plain
    assert not {"graders", "question", "answer"} & plain.keys()


class Capitals(Benchmark):
    """The one file of a benchmark with code, as docs/evaluation.md shows it."""

    name = "capitals"
    graders = ("last_word",)
    columns = Columns(("country", "capital"))
    default_source: Source | None = None  # type: ignore[misc]

    def problem(self, row: Mapping[str, Any], number: int) -> Problem:
        country, capital = (text_in(row, name, blank=False) for name in ("country", "capital"))
        return Problem.asking(f"capital-{number:05d}", f"{country}?", capital.lower(), country=country)


class LastWord(Grader):
    """A grader, as docs/evaluation.md shows it."""

    name = "last_word"
    version = 1
    says = "the last word, in any case"

    def extract(self, text: str) -> str | None:
        words = text.split()
        return words[-1].strip(".!").lower() if words else None


def test_a_benchmark_and_a_grader_are_a_class_and_a_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BENCHMARKS, "capitals", Capitals())
    monkeypatch.setitem(GRADERS, "last_word", LastWord())
    row = {"country": "France", "capital": "Paris"}
    task = task_of(tmp_path, row, benchmark="capitals")
    (one,) = get_benchmark("capitals").load(task)
    (grader,) = graders_of(task)
    grades = grader.grades(["It is PARIS.", "Lyon", ""], [one.gold] * 3)
    assert [grade.verdict for grade in grades] == ["right", "wrong", "wrong"]
