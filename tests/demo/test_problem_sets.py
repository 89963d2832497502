"""`trims demo problems`: fresh held-out sets that repeat, differ by seed and keep clear of other files."""

from __future__ import annotations

import json
import random
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from trims_core.demo import corpus_files
from trims_core.demo.problems import Group, Problem, draw_problem

COUNT = 300
SHIPPED = ("test.jsonl", "train.jsonl")


def trims(*words: str | Path) -> tuple[int, str]:
    found = CliRunner().invoke(
        app, ["demo", "problems", *map(str, words)], env={"COLUMNS": "300"}, catch_exceptions=False
    )
    return found.exit_code, found.output


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def questions(path: Path) -> set[str]:
    return {row["question"] if "question" in row else row["messages"][0]["content"] for row in rows(path)}


def made(out: Path, *words: str | Path) -> Path:
    code, said = trims(out, "--count", str(COUNT), *words)
    assert (code, said) == (0, f"{COUNT} problems: {out}\n")
    return out


@pytest.fixture
def shipped(project_root: Path) -> Path:
    return project_root / "data" / "demo"


@pytest.fixture
def small_world(monkeypatch: pytest.MonkeyPatch) -> list[Problem]:
    """A generator of seven problems, over and over."""
    rng = random.Random("small world")
    seven = [draw_problem(rng, "held-out") for _ in range(7)]
    endless = cycle(seven)

    def draw(_rng: random.Random, _group: Group | None = None) -> Problem:
        return next(endless)

    monkeypatch.setattr(corpus_files, "draw_problem", draw)
    return seven


def test_a_set_has_the_format_of_the_held_out_file_and_distinct_held_out_questions(
    shipped: Path, tmp_path: Path
) -> None:
    found = rows(made(tmp_path / "new" / "final.jsonl"))
    assert [row["id"] for row in found] == [f"final-{i:05d}" for i in range(COUNT)]
    assert {tuple(row) for row in found} == {tuple(row) for row in rows(shipped / "test.jsonl")}
    assert all(row["answer"].isdigit() for row in found)
    assert len({row["question"] for row in found}) == COUNT
    assert [row["id"] for row in rows(made(tmp_path / "b.jsonl", "--prefix", "b"))][-1] == "b-00299"


def test_the_held_out_file_is_the_set_of_its_own_seed(shipped: Path, tmp_path: Path) -> None:
    found = made(tmp_path / "same.jsonl", "--seed", "7", "--prefix", "test")
    assert rows(found) == rows(shipped / "test.jsonl")[:COUNT]


def test_the_same_arguments_write_the_same_bytes_and_seeds_differ(shipped: Path, tmp_path: Path) -> None:
    excluded = ("--without", shipped / "test.jsonl")
    first, again = (made(tmp_path / name, *excluded) for name in ("first.jsonl", "again.jsonl"))
    assert first.read_bytes() == again.read_bytes()
    other = made(tmp_path / "other.jsonl", "--seed", "2027", *excluded)
    assert len(questions(first) & questions(other)) < COUNT / 10


def test_no_question_of_an_excluded_file_occurs(shipped: Path, tmp_path: Path) -> None:
    # the seed of the shipped files draws their questions first
    words: list[str | Path] = ["--seed", "7"]
    for name in SHIPPED:
        words += ["--without", shipped / name]
    found = questions(made(tmp_path / "fresh.jsonl", *words))
    assert len(found) == COUNT
    assert not found & (questions(shipped / "test.jsonl") | questions(shipped / "train.jsonl"))


def test_conversations_are_excluded_by_their_first_user_message(
    small_world: list[Problem], tmp_path: Path
) -> None:
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": small_world[0].question}]
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": turns}) + "\n\n")
    code, _ = trims(tmp_path / "out.jsonl", "--count", "6", "--without", tmp_path / "chat.jsonl")
    assert code == 0
    assert questions(tmp_path / "out.jsonl") == {problem.question for problem in small_world[1:]}


def test_an_exhausted_generator_is_an_error_that_says_how_many_there_are(
    small_world: list[Problem], tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    assert trims(out, "--count", "7")[0] == 0
    before = out.read_bytes()
    code, said = trims(out, "--count", "8")
    assert code == 2
    assert "8 problems asked for: the generator has 7 distinct held-out questions" in said
    assert "ask for at most 7" in said
    assert out.read_bytes() == before, "a failed command changes no file"
    code, said = trims(tmp_path / "more.jsonl", "--count", "1", "--without", out)
    assert "has 0 distinct held-out questions besides the 7 excluded ones" in said
    assert not (tmp_path / "more.jsonl").exists()


@pytest.mark.parametrize(
    "line", ["{", "[1]", "3", '{"text": "x"}', '{"messages": []}', '{"messages": [{}]}', '{"question": 3}']
)
def test_a_line_without_a_question_is_an_error_that_names_it(line: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(f'{{"question": "1 + 1?"}}\n{line}\n')
    code, said = trims(tmp_path / "out.jsonl", "--without", tmp_path / "bad.jsonl")
    assert code == 65
    assert f"{tmp_path / 'bad.jsonl'}:2: no question in" in said


def test_a_missing_excluded_file_is_an_error(tmp_path: Path) -> None:
    code, said = trims(tmp_path / "out.jsonl", "--without", tmp_path / "absent.jsonl")
    assert code == 2
    assert "absent.jsonl: cannot be read" in said
