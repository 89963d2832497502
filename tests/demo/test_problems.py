"""The demo's problems and worked answers."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from trims_core.demo.problems import MAX_TOTAL, Group, Problem, Step, draw_problem
from trims_core.demo.wordings import WORDINGS, Style, worked_answer

SIGNS = {
    "gain": "+",
    "lose": "-",
    "times": "*",
    "share": "/",
    "more": "+",
    "fewer": "-",
    "join": "+",
    "pay": "-",
}


def draw(count: int, group: Group | None = None) -> list[Problem]:
    rng = random.Random("problems")
    return [draw_problem(rng, group) for _ in range(count)]


def result(step: Step) -> float:
    sums = {
        "+": step.left + step.right,
        "-": step.left - step.right,
        "*": step.left * step.right,
        "/": step.left / step.right,
    }
    return sums[SIGNS[step.operation]]


def test_the_same_seed_draws_the_same_problems() -> None:
    assert draw(50) == draw(50)


def test_every_step_is_right_and_stays_small() -> None:
    for problem in draw(2000):
        assert 2 <= len(problem.steps) <= 4
        for step in problem.steps:
            assert step.result == result(step)
            assert 1 <= step.result <= MAX_TOTAL


def test_the_question_holds_every_number_the_answer_needs() -> None:
    for problem in draw(500):
        told = {int(number) for number in re.findall(r"\d+", problem.question)}
        known = set(told)
        for step in problem.steps:
            assert {step.left, step.right} <= known
            known.add(step.result)


def test_the_group_follows_from_the_content_alone() -> None:
    groups: dict[str, set[str]] = {}
    for problem in draw(5000):
        groups.setdefault(problem.content, set()).add(problem.group)
    assert all(len(found) == 1 for found in groups.values())
    assert {group for found in groups.values() for group in found} == {
        "held-out",
        "fine-tuning",
        "pre-training",
    }


def test_held_out_problems_appear_in_no_other_group_under_any_names() -> None:
    held_out = {problem.content for problem in draw(800, "held-out")}
    others = {problem.content for problem in draw(800, "fine-tuning") + draw(800, "pre-training")}
    assert not held_out & others


def test_all_kinds_of_problems_occur() -> None:
    assert set(Counter(problem.kind for problem in draw(300))) == {
        "counting",
        "boxes",
        "together",
        "shopping",
        "sharing",
    }


@pytest.mark.parametrize("style", WORDINGS)
def test_worked_answers_state_every_sum_and_end_in_the_answer(style: Style) -> None:
    rng = random.Random("answers")
    for problem in draw(500):
        answer = worked_answer(rng, problem, style)
        equations = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", answer)
        assert len(equations) == len(problem.steps)
        for (left, sign, right, total), step in zip(equations, problem.steps, strict=True):
            assert sign == SIGNS[step.operation]
            assert {int(left), int(right)} == {step.left, step.right}
            assert int(total) == step.result
        assert answer.endswith(f"The answer is {problem.answer}.")
        assert "{" not in answer
        assert "(" not in answer


@pytest.mark.parametrize("style", WORDINGS)
def test_each_sum_has_several_wordings_of_more_than_one_length(style: Style) -> None:
    for wordings in WORDINGS[style].values():
        assert len(set(wordings)) == (3 if style == "tuned" else 5)
        assert len({len(wording.split()) for wording in wordings}) > 1


def test_the_fine_tuning_style_is_a_narrower_base_style() -> None:
    for operation, wordings in WORDINGS["tuned"].items():
        assert set(wordings) < set(WORDINGS["base"][operation])


def test_the_same_problem_is_told_in_several_ways() -> None:
    rng = random.Random("variety")
    problem = draw(1)[0]
    assert len({worked_answer(rng, problem, "base") for _ in range(100)}) > 20
