"""MATH, Countdown, Sudoku: rows in every published form become problems, and what is no puzzle is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trims_core.benchmarks import Problem, get_benchmark
from trims_core.errors import ConfigError, CorpusError
from trims_core.sweep_sections import TaskConfig


def problems(tmp_path: Path, benchmark: str, *rows: dict[str, Any] | str) -> list[Problem]:
    path = tmp_path / ("rows.csv" if isinstance(rows[0], str) else "rows.jsonl")
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return get_benchmark(benchmark).load(TaskConfig(benchmark=benchmark, path=str(path)))


def test_math_takes_the_answer_or_the_solutions_last_box(tmp_path: Path) -> None:
    given = {"problem": "P?", "answer": " 5 ", "unique_id": "test/a/1.json", "subject": "A", "level": 2}
    full = {
        "problem": "Q?",
        "solution": r"\boxed{1} so \boxed{\frac{1}{2}}.",
        "type": "B",
        "level": "3",
    }
    one, other = problems(tmp_path, "math", given, full)
    assert (one.id, one.gold, one.messages) == ("test/a/1.json", "5", ({"role": "user", "content": "P?"},))
    assert one.facts == {"question": "P?", "subject": "A", "level": "2"}
    assert (other.id, other.gold) == ("math-00001", r"\frac{1}{2}")
    assert other.facts == {"question": "Q?", "subject": "B", "level": "3"}


@pytest.mark.parametrize(
    "row",
    [
        {"input": "15,44,79", "output": "50"},
        {"input": "15,44,79,50", "output": "44-15=29,79-29=50"},
        {"numbers": [15, 44, 79], "target": 50},
    ],
)
def test_countdown_reads_numbers_and_target_from_every_form(tmp_path: Path, row: dict[str, Any]) -> None:
    (one,) = problems(tmp_path, "countdown", row)
    assert json.loads(one.gold) == {"numbers": [15, 44, 79], "target": 50}
    assert one.messages[0]["content"] == "Numbers: [15, 44, 79]\nTarget: 50"
    assert {name: one.facts[name] for name in ("numbers", "target", "n_numbers")} == {
        "numbers": "15, 44, 79",
        "target": "50",
        "n_numbers": "3",
    }


@pytest.mark.parametrize(
    "rows",
    [
        ({"puzzle": "1000000240030000", "solution": "1234341241232341"},),
        ("Puzzle,Solution", "1000000240030000,1234341241232341"),
        ({"givens": 4, "input": "1000\n0002\n4003\n0000", "output": "1234\n3412\n4123\n2341"},),
    ],
)
def test_sudoku_reads_puzzle_and_solution_from_every_form(tmp_path: Path, rows: Any) -> None:
    (one,) = problems(tmp_path, "sudoku", *rows)
    assert json.loads(one.gold) == {"puzzle": "1000000240030000", "solution": "1234341241232341"}
    assert (one.facts["puzzle"], one.facts["n_givens"]) == ("1000000240030000", "4")
    assert one.facts["grid"] == "1000\n0002\n4003\n0000"


@pytest.mark.parametrize(
    ("benchmark", "row", "message"),
    [
        ("math", {"problem": "P?"}, r"rows\.jsonl:1: no column 'solution'.*add it, or \"answer\""),
        ("math", {"problem": "P?", "solution": r"\boxed{5"}, "expected an answer in a complete"),
        ("countdown", {"input": "1,x", "output": "3"}, "expected whole numbers between commas"),
        ("countdown", {"input": "1,2", "output": "none"}, "expected the target, or steps"),
        ("countdown", {"numbers": [1, True], "target": 3}, "expected whole numbers"),
        ("countdown", {"output": "3"}, "no column 'input'"),
        ("sudoku", {"puzzle": "1000", "solution": "1234341241232341"}, "expected 16 digits"),
        ("sudoku", {"puzzle": "2" + "0" * 15, "solution": "1234341241232341"}, "does not solve the puzzle"),
        ("sudoku", {"solution": "1234341241232341"}, "no column 'puzzle'"),
    ],
)
def test_a_row_that_is_no_problem_is_named(
    tmp_path: Path, benchmark: str, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(CorpusError, match=message):
        problems(tmp_path, benchmark, row)


@pytest.mark.parametrize("benchmark", ["countdown", "sudoku", "qa"])
def test_a_benchmark_without_data_of_its_own_asks_for_some(benchmark: str) -> None:
    task = TaskConfig(benchmark=benchmark, graders=("number_flexible",))
    with pytest.raises(ConfigError, match=rf"benchmark {benchmark}: no path and no hub"):
        get_benchmark(benchmark).load(task)


def test_published_files_are_read(shared_data: Path) -> None:
    counts = {"d1_countdown_cd3_test.jsonl": 256} | {f"dream_cd{n}_test.jsonl.gz": 1000 for n in (3, 4, 5)}
    for file, n in counts.items():
        task = TaskConfig(benchmark="countdown", path=str(shared_data / "data/planning" / file))
        found = get_benchmark("countdown").load(task)
        assert (len(found), found[0].facts["n_numbers"]) == (n, file[file.index("cd", 6) + 2])
