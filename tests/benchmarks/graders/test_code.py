"""HumanEval and MBPP: reference solutions are right, what is wrong with an answer makes it wrong."""

from __future__ import annotations

import ast
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.boxes import needs_bubblewrap, sandbox

from trims_core.benchmarks import Problem, get_benchmark
from trims_core.benchmarks.graders import code, get_grader
from trims_core.benchmarks.graders.code import HumanEval, MbppRaw
from trims_core.errors import CorpusError
from trims_core.sweep_sections import TaskConfig


@pytest.fixture(autouse=True)
def bubblewrap() -> None:
    needs_bubblewrap()


def loaded(benchmark: str, path: Path) -> tuple[list[Problem], list[dict[str, Any]]]:
    """Problems and rows of a file; MBPP's sanitized one is an array."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        text = file.read()
    rows = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    return [get_benchmark(benchmark).problem(row, number) for number, row in enumerate(rows)], rows


def right(grader: str, problems: list[Problem], texts: list[str]) -> list[str]:
    """The ids of what is right; nothing else but wrong ones."""
    grades = get_grader(grader).grades(texts, [problem.gold for problem in problems])
    assert {grade.verdict for grade in grades} <= {"right", "wrong"}
    return [problem.id for problem, grade in zip(problems, grades, strict=True) if grade.verdict == "right"]


@pytest.mark.parametrize("grader", ["humaneval_raw", "humaneval"])
def test_all_canonical_solutions_of_humaneval_are_right(shared_data: Path, grader: str) -> None:
    problems, rows = loaded("humaneval", shared_data / "data/humaneval/HumanEval.jsonl.gz")
    assert len(problems) == 164 and problems[0].id == "HumanEval/0"
    texts = [row["canonical_solution"] for row in rows]
    if grader == "humaneval":  # as an instructed model answers
        texts = [
            f"Here it is:\n```python\n{row['prompt']}{text}```\nDone."
            for row, text in zip(rows, texts, strict=True)
        ]
    assert right(grader, problems, texts) == [problem.id for problem in problems]


@pytest.mark.parametrize(
    ("file", "n", "step"), [("mbpp.jsonl.gz", 974, 3), ("sanitized-mbpp.json.gz", 427, 2)]
)
def test_reference_solutions_of_mbpp_are_right(shared_data: Path, file: str, n: int, step: int) -> None:
    """Every so manieth, and those that ask for more than plain values; task 123 takes 5 CPU seconds."""
    problems, rows = loaded("mbpp", shared_data / "data/mbpp" / file)
    assert len(problems) == n
    special = {"367", "533", "596", "601", "737", "787", "794", "927"}
    chosen = [
        at for at, one in enumerate(problems) if one.id in special or (at % step == 1 and one.id != "123")
    ]
    texts = [rows[at]["code"] for at in chosen]
    picked = [problems[at] for at in chosen]
    assert right("mbpp_raw", picked, texts) == [problem.id for problem in picked]


def test_the_clean_up_keeps_every_reference_solution_of_mbpp_whole(shared_data: Path) -> None:
    """Without running them: what the tested names need of a fenced solution, as of the solution itself."""
    problems, rows = loaded("mbpp", shared_data / "data/mbpp/mbpp.jsonl.gz")
    grader = get_grader("mbpp")
    lost = []
    for problem, row in zip(problems, rows, strict=True):
        solution = row["code"].replace("\r", "").replace("\t", "    ")
        kept = grader.program(
            f"Sure:\n```python\n{solution}\n```\n[DONE]\n more", json.loads(problem.gold)
        ).source  # type: ignore[attr-defined]
        bound = {node.id for node in ast.walk(ast.parse(kept)) if isinstance(node, ast.Name)}
        whole = {node.name for node in ast.parse(solution).body if isinstance(node, ast.FunctionDef)}
        have = {node.name for node in ast.parse(kept).body if isinstance(node, ast.FunctionDef)}
        lost += [problem.id] if (bound & whole) - have or not have | bound else []
    assert lost == []


def edited(code: str) -> Iterator[str]:
    """The code with something wrong, as many ways as apply."""
    for old, new in (
        (r"return (.+)", "return None"),
        (r"return (.+)", r"return [\1]"),
        ("return .+", "pass"),
    ):
        changed = re.sub(old, new, code)
        if changed != code:
            yield changed


def test_edited_solutions_are_wrong(shared_data: Path) -> None:
    problems, rows = loaded("humaneval", shared_data / "data/humaneval/HumanEval.jsonl.gz")
    pairs = [
        (problem, text)
        for problem, row in list(zip(problems, rows, strict=True))[::8]
        for text in edited(row["canonical_solution"])
    ]
    assert len(pairs) > 40
    assert right("humaneval_raw", [one for one, _ in pairs], [text for _, text in pairs]) == []


GOLD = json.dumps({"tests": ["assert add(1, 2) == 3"], "names": ["add"], "imports": ""})
PROMPT = 'def add(a, b):\n    """The sum."""\n'
HUMAN = json.dumps({"prompt": PROMPT, "test": "def check(f):\n    assert f(1, 2) == 3", "entry_point": "add"})
ADD = "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize(
    ("grader", "gold", "text", "verdict"),
    [
        ("mbpp_raw", GOLD, ADD, "right"),
        ("mbpp_raw", GOLD, f"```python\n{ADD}```", "wrong"),
        ("mbpp", GOLD, f"```python\n{ADD}```", "right"),
        ("mbpp", GOLD, f"{ADD}[DONE]\n\nYou are (", "right"),
        ("mbpp", GOLD, f"{ADD}```\nThat is it (", "right"),
        ("mbpp", GOLD, "def plus(a, b):\n    return a + b", "wrong"),
        ("mbpp", GOLD, "no program (", "wrong"),
        ("mbpp", GOLD, "", "wrong"),
        ("mbpp", GOLD, f"{ADD}print(add(", "right"),
        ("mbpp", GOLD, f"x = (1\n{ADD}exit()", "right"),
        ("mbpp_raw", GOLD, f"{ADD}exit()", "wrong"),
        (
            "mbpp",
            GOLD,
            "a, b = 1, 2\nt = {1: b}\ndef h(x):\n    return t.get(1)\ndef add(x, y):\n    return x + h(y)",
            "right",
        ),
        ("mbpp", GOLD, f"{ADD}def add(a, b):\n    'again, cut off'\n", "right"),
        ("humaneval_raw", HUMAN, "    return a + b\n", "right"),
        ("humaneval_raw", HUMAN, f"```python\n{PROMPT}    return a + b\n```", "wrong"),
        ("humaneval", HUMAN, f"Well:\n```python\n{PROMPT}    return a + b\n```\nDone.", "right"),
        ("humaneval", HUMAN, "    return a + b\n```\n\nIt adds.", "right"),
        ("humaneval", HUMAN, "    return a + b\n\nprint(add(1, 2)", "right"),
        ("humaneval", HUMAN, "    return a - b\n", "wrong"),
        ("humaneval", HUMAN, "", "wrong"),
    ],
)
def test_what_of_a_text_is_run(grader: str, gold: str, text: str, verdict: str) -> None:
    found = get_grader(grader).grade(text, gold)
    assert (found.verdict, found.problem) == (verdict, None)


def test_an_endless_program_is_a_timeout_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "_sandbox", lambda unsafe: sandbox(time_s=1))
    found = get_grader("humaneval_raw").grade("    while True: pass", HUMAN)
    assert (found.verdict, found.problem) == ("timeout", "more than 1 s")
    with pytest.raises(TimeoutError):
        get_grader("humaneval_raw").is_right("    while True: pass", HUMAN)
    assert get_grader("humaneval_raw").is_right("    return a + b", HUMAN)


def test_grades_without_a_sandbox_have_another_name() -> None:
    safe, unsafe = HumanEval(), HumanEval(unsafe=True)
    assert (safe.key, unsafe.key) == ("humaneval 1", "humaneval 1 without a sandbox")
    assert "unsafe" in unsafe.sandbox.mark and unsafe.grade("    return a + b", HUMAN).verdict == "right"
    assert not MbppRaw().finds_gold


def test_a_right_answer_that_is_no_json_is_the_grader_s_trouble() -> None:
    assert get_grader("mbpp_raw").grade(ADD, "{").verdict == "error"
    assert [one.verdict for one in get_grader("mbpp_raw").grades([ADD, ADD], ["{", GOLD])] == [
        "error",
        "right",
    ]


@pytest.mark.parametrize(
    ("benchmark", "change", "said"),
    [
        ("humaneval", {"entry_point": "no name"}, "expected the name of a function"),
        ("humaneval", {"prompt": 3}, "'prompt' is int 3"),
        ("mbpp", {"test_list": []}, "'test_list' is empty"),
        ("mbpp", {"test_list": "assert 1"}, "expected a list of texts"),
        ("mbpp", {"test_list": ["assert ("]}, "a test is no Python"),
        ("mbpp", {"code": "def ("}, "'code' is no Python"),
        ("mbpp", {"test_list": ["assert other() == 1"]}, "'code' defines none"),
    ],
)
def test_rows_that_cannot_be_used_are_told(
    tmp_path: Path, benchmark: str, change: dict[str, Any], said: str
) -> None:
    row = {
        "prompt": PROMPT,
        "entry_point": "add",
        "test": "x",
        "code": ADD,
        "test_list": ["assert add(1, 2)"],
    }
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**row, **change}))
    with pytest.raises(CorpusError, match=re.escape(said)) as error:
        get_benchmark(benchmark).load(TaskConfig(benchmark=benchmark, path=(str(path),)))
    assert "rows.jsonl:1" in str(error.value)


def test_what_profiles_may_name_of_a_problem(shared_data: Path) -> None:
    (first, *_), _ = loaded("mbpp", shared_data / "data/mbpp/mbpp.jsonl.gz")
    assert set(first.facts) == {"text", "tests", "test_1", "test_2", "test_3"}
    assert first.facts["tests"].split("\n")[2] == first.facts["test_3"] and first.id == "1"
    (first, *_), _ = loaded("humaneval", shared_data / "data/humaneval/HumanEval.jsonl.gz")
    assert set(first.facts) == {"prompt", "entry_point"}
