"""What graders say of answers whose accuracies are published or known, and of right answers themselves.

The answers of LLaDA-8B-Instruct are those that d1 published with its program (256 tokens).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes.llada_outputs import N_ANSWERS, Answer, answers, rows_of

from trims_core.benchmarks import Grade, Problem, get_benchmark, get_grader
from trims_core.sweep_sections import TaskConfig


@pytest.fixture(scope="module")
def stored(shared_data: Path) -> dict[str, list[Answer]]:
    """Task → what LLaDA answered."""
    found = {task: answers(shared_data, task) for task in N_ANSWERS}
    assert {task: len(one) for task, one in found.items()} == N_ANSWERS
    return found


@pytest.fixture(scope="module")
def gsm8k(shared_data: Path) -> list[tuple[Problem, str]]:
    """The test problems, and their right answers as they are written."""
    path = shared_data / "data/gsm8k/test.jsonl.gz"
    problems = get_benchmark("gsm8k").load(TaskConfig(benchmark="gsm8k", path=str(path)))
    written = [row["answer"].rpartition("####")[2].strip() for row in rows_of(path)]
    assert len(written) == 1319
    return list(zip(problems, written, strict=True))


@pytest.fixture(scope="module")
def math(shared_data: Path) -> list[str]:
    """The right answers of MATH-500."""
    task = TaskConfig(benchmark="math", path=str(shared_data / "data/math/math500.jsonl.gz"))
    problems = get_benchmark("math").load(task)
    assert len({problem.id for problem in problems}) == 500
    return [problem.gold for problem in problems]


def grades(name: str, asked: Sequence[Answer], *, shown: bool = False) -> list[Grade]:
    texts = [one.shown if shown else one.text for one in asked]
    return get_grader(name).grades(texts, [one.gold for one in asked])


def n_right(found: Sequence[Grade]) -> int:
    assert {grade.verdict for grade in found} <= {"right", "wrong"}
    return sum(grade.verdict == "right" for grade in found)


@pytest.mark.parametrize("shown", [False, True], ids=["with end tokens", "as a sweep stores it"])
def test_d1s_rules_give_d1s_numbers(stored: dict[str, list[Answer]], *, shown: bool) -> None:
    found = {
        task: grades(name, stored[task], shown=shown)
        for task, name in {
            "gsm8k": "d1_gsm8k",
            "math500": "d1_math",
            "countdown": "d1_countdown",
            "sudoku": "d1_sudoku",
        }.items()
    }
    assert {task: n_right(one) for task, one in found.items()} == {
        "gsm8k": 863,
        "math500": 162,
        "countdown": 50,
        "sudoku": 0,
    }
    shares = [grade.share or (0, 0) for grade in found["sudoku"]]
    assert (sum(right for right, _ in shares), sum(empty for _, empty in shares)) == (137, 2048)


@pytest.mark.parametrize(
    ("name", "task", "expected"),
    [
        ("number_flexible", "gsm8k", 887),  # 78.50 %
        ("number_flexible_text", "gsm8k", 872),
        ("number_flexible_no_commas", "gsm8k", 878),
        ("number_strict", "gsm8k", 0),
        ("number_first_box", "gsm8k", 864),
        ("number_first_box_no_commas", "gsm8k", 854),
        ("number_last_box", "gsm8k", 863),
        ("number_last_box_no_commas", "gsm8k", 854),
        ("last_box_text", "math500", 142),  # 28.4 %
        ("countdown", "countdown", 47),
        ("countdown_steps", "countdown", 0),
        ("sudoku", "sudoku", 0),
    ],
)
def test_other_rules_on_the_same_answers(
    stored: dict[str, list[Answer]], name: str, task: str, expected: int
) -> None:
    assert n_right(grades(name, stored[task])) == expected
    assert n_right(grades(name, stored[task], shown=True)) == expected


def test_what_d1_accepts_of_countdown_and_an_exact_reader_does_not(stored: dict[str, list[Answer]]) -> None:
    published, exact = (grades(name, stored["countdown"]) for name in ("d1_countdown", "countdown"))
    pairs = enumerate(zip(published, exact, strict=True))
    others = {number: new.extracted for number, (old, new) in pairs if old.verdict != new.verdict}
    assert all("=" in (text or "=") for text in others.values()), others
    assert len(others) == 3


def test_gold_numbers_are_right_through_every_extraction(gsm8k: list[tuple[Problem, str]]) -> None:
    golds = [problem.gold for problem, _ in gsm8k]
    forms = {
        "number_strict": ("#### {}", "The answer is {}."),
        "number_flexible": ("#### {}", "The answer is {}.", "\\boxed{{{}}}", "<answer>{}</answer>"),
        "number_flexible_text": ("#### {}", "The answer is {}.", "\\boxed{{{}}}", "<answer>{}</answer>"),
        "gsm8k_number": ("#### {}", "The answer is {}.", "\\boxed{{{}}}", "<answer>{}</answer>"),
        "last_answer_sentence": ("The answer is {}.",),
        "number_first_box": ("\\boxed{{{}}}",),
        "number_last_box": ("\\boxed{{{}}}",),
    }
    for name, texts in forms.items():
        for form in texts:
            found = get_grader(name).grades([form.format(written) for _, written in gsm8k], golds)
            assert n_right(found) == 1319, (name, form)


@pytest.mark.parametrize(
    ("name", "form", "lost"),
    [
        ("d1_gsm8k", "\\boxed{{{}}}", ",-"),
        ("d1_gsm8k", "<answer>{}</answer>", ",-"),
        ("number_strict_no_commas", "#### {}", ","),
        ("number_flexible_no_commas", "#### {}", ","),
        ("number_first_box_no_commas", "\\boxed{{{}}}", ","),
        ("number_last_box_no_commas", "\\boxed{{{}}}", ","),
    ],
)
def test_gold_numbers_with_commas_are_lost_where_commas_are_and_negative_ones_by_d1(
    gsm8k: list[tuple[Problem, str]], name: str, form: str, lost: str
) -> None:
    found = get_grader(name).grades(
        [form.format(written) for _, written in gsm8k], [problem.gold for problem, _ in gsm8k]
    )
    wrong = [written for (_, written), grade in zip(gsm8k, found, strict=True) if grade.verdict != "right"]
    assert wrong == [written for _, written in gsm8k if set(written) & set(lost)]
    assert len(wrong) == (16 if "-" in lost else 14)


def edits(gold: str) -> dict[str, str]:
    """Wrong answers that look like a right one: its first whole number changed, or its sign. Left out is what
    changes no value (`-0`, a 0 behind decimals), and the sign of an equation, which is its left side's."""
    found = re.search(r"\d+", gold)
    if found is None:
        return {}
    value, digits = int(found.group()), found.group()
    changed = {"+1": str(value + 1), "-1": str(value - 1), "swapped": digits[::-1]}
    if not gold[: found.start()].endswith("."):
        changed["×10"] = str(value * 10)
    around = gold[: found.start()], gold[found.end() :]
    wrong = {name: f"{around[0]}{new}{around[1]}" for name, new in changed.items() if int(new) != value}
    if gold != "0" and "=" not in gold:
        wrong["sign"] = gold[1:] if gold.startswith("-") else f"-{gold}"
    return wrong


def test_edited_gold_numbers_are_wrong_through_every_extraction(gsm8k: list[tuple[Problem, str]]) -> None:
    asked = [(wrong, problem.gold) for problem, _ in gsm8k for wrong in edits(problem.gold).values()]
    assert len(asked) > 5000
    for name in get_benchmark("gsm8k").graders:
        for form in ("#### {}", "The answer is {}.", "\\boxed{{{}}}", "<answer>{}</answer>"):
            found = get_grader(name).grades([form.format(wrong) for wrong, _ in asked], [g for _, g in asked])
            assert n_right(found) == 0, (name, form)


def test_golds_of_math_are_right_as_text_and_for_d1_and_edited_ones_wrong(math: list[str]) -> None:
    for name in ("last_box_text", "d1_math"):
        grader = get_grader(name)
        assert n_right(grader.grades([f"\\boxed{{{gold}}}" for gold in math], math)) == 500
        for gold in math:
            wrong = [f"\\boxed{{{one}}}" for one in edits(gold).values()]
            assert n_right(grader.grades(wrong, [gold] * len(wrong))) == 0, (name, gold)


def test_dreams_steps_are_right_and_edited_ones_wrong(shared_data: Path) -> None:
    for n in (3, 4, 5):
        path = shared_data / f"data/planning/dream_cd{n}_test.jsonl.gz"
        problems = get_benchmark("countdown").load(TaskConfig(benchmark="countdown", path=str(path)))
        steps, golds = [row["output"] for row in rows_of(path)], [problem.gold for problem in problems]
        grader = get_grader("countdown_steps")
        assert n_right(grader.grades(steps, golds)) == 1000
        assert n_right(grader.grades(steps[1:], golds[:-1])) == 0
        for number, (text, gold) in enumerate(zip(steps[:100], golds, strict=False)):
            wrong = [one for name, one in edits(text).items() if name != "sign"]
            assert n_right(grader.grades(wrong, [gold] * len(wrong))) == 0, number


def test_published_grids_solve_their_puzzles_and_edited_ones_do_not(shared_data: Path) -> None:
    for file, n in (("d1_sudoku4x4_test.csv", 500), ("dream_sudoku4x4.jsonl.gz", 972)):
        task = TaskConfig(benchmark="sudoku", path=str(shared_data / "data/planning" / file))
        problems = get_benchmark("sudoku").load(task)
        golds = [problem.gold for problem in problems]
        grids = [json.loads(gold)["solution"] for gold in golds]
        assert len(golds) == n
        for name in get_benchmark("sudoku").graders:
            assert (
                n_right(get_grader(name).grades([f"<answer>{grid}</answer>" for grid in grids], golds)) == n
            )
        swapped = [f"<answer>{grid[1]}{grid[0]}{grid[2:]}</answer>" for grid in grids]
        assert n_right(get_grader("sudoku").grades(swapped, golds)) == 0


class TestMathVerify:
    """One pass over all that is asked of math_verify."""

    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, stored: dict[str, list[Answer]], math: list[str]) -> dict[str, list[Grade]]:
        """Grades of the stored answers, whole and boxes alone, of right answers, and of edited ones."""
        whole, box = get_grader("math_verify"), get_grader("math_verify_box")
        asked, golds = stored["math500"], [one.gold for one in stored["math500"]]
        wrong = [
            (f"\\boxed{{{new}}}", gold)
            for number, gold in enumerate(math)
            for new in list(edits(gold).values())[number % 2 :: 2]
        ]
        return {
            "whole": whole.grades([one.shown for one in asked], golds),
            "box": box.grades([one.shown for one in asked], golds),
            "golds": whole.grades([f"\\boxed{{{gold}}}" for gold in math], math),
            "edited": whole.grades([text for text, _ in wrong], [gold for _, gold in wrong]),
        }

    def test_the_stored_answers(self, found: dict[str, list[Grade]]) -> None:
        assert n_right(found["whole"]) == 182  # 36.4 %
        assert n_right(found["box"]) == 176

    def test_the_whole_text_is_right_beyond_the_box_where_that_is_empty_or_not_there(
        self, found: dict[str, list[Grade]], stored: dict[str, list[Answer]]
    ) -> None:
        pairs = zip(found["whole"], found["box"], stored["math500"], strict=True)
        beyond = [one for whole, box, one in pairs if whole.verdict != box.verdict]
        boxes = {one.gold: get_grader("math_verify_box").extract(one.text) for one in beyond}
        assert boxes == {"\\pi": "", "12": "...", "2000": None, "4": None, "28": None, "255": None}

    def test_right_answers_are_right(self, found: dict[str, list[Grade]]) -> None:
        assert n_right(found["golds"]) == 500

    def test_edited_ones_are_wrong(self, found: dict[str, list[Grade]]) -> None:
        assert n_right(found["edited"]) == 0
