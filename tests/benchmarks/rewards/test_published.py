"""The published program's rewards, value for value, by its own results on 98 texts; faults included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trims_core.benchmarks.rewards import REWARDS

NAMES = {
    "gsm8k": {
        "xml_count": "gsm8k_xml_count_compat",
        "soft_format": "gsm8k_soft_format_compat",
        "strict_format": "gsm8k_strict_format_compat",
        "integer": "gsm8k_integer_compat",
        "correct": "gsm8k_compat",
    },
    "math": {"correct": "math_compat", "boxed_and_tags": "math_format_compat"},
}


def value(name: str, completion: str, answer: str) -> float | str | None:
    """Of a reward, or which error it raises, as the reference names it."""
    try:
        return REWARDS[name].value([], completion, answer)
    except TypeError:
        return "EXC:TypeError"


def countdown(completion: str, target: int = 5, numbers: tuple[int, ...] = (2, 3, 4)) -> float | str | None:
    puzzle = json.dumps({"numbers": numbers, "target": target})
    return value("countdown_compat", f"<answer>{completion}</answer>", puzzle)


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(
        (shared_data / "oracles" / "objectives" / "rewards.json").read_text()
    )
    assert sum(map(len, found.values())) == 98
    return found


@pytest.mark.parametrize("task", NAMES)
def test_gsm8k_and_math(cases: dict[str, list[dict[str, Any]]], task: str) -> None:
    for case in cases[task]:
        found = {key: value(name, case["completion"], case["answer"]) for key, name in NAMES[task].items()}
        expected = case["values"]
        assert found == (expected if isinstance(expected, dict) else dict.fromkeys(found, expected)), case
        if not isinstance(case["total"], str):
            assert sum(found.values()) == pytest.approx(case["total"], abs=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "keys"), [("countdown", ("target", "numbers")), ("sudoku", ("puzzle", "solution"))]
)
def test_puzzles(cases: dict[str, list[dict[str, Any]]], task: str, keys: tuple[str, ...]) -> None:
    for case in cases[task]:
        puzzle = json.dumps({key: case[key] for key in keys})
        assert value(f"{task}_compat", case["completion"], puzzle) == case["value"], case


def test_the_number_behind_the_mark_is_compared_as_text() -> None:
    worked = "12 * 100 = 1,200\n#### 1,200"
    assert value("gsm8k_compat", "<answer>\n1,200\n</answer>", worked) == 2.0
    assert value("gsm8k_compat", "<answer>1200</answer>", worked) == 0.0


def test_a_corpus_box_that_is_not_closed_raises() -> None:
    assert value("math_compat", "\\boxed{5}", "Thus \\boxed{5") == "EXC:TypeError"
    assert value("math_format_compat", "\\boxed{5}", "Thus \\boxed{5") == 0.25


def test_missing_cells_are_wrong_whatever_is_missing() -> None:
    puzzle = json.dumps({"puzzle": "0204430021433412", "solution": "1234432121433412"})
    assert value("sudoku_compat", "<answer>1234432</answer>", puzzle) == 3 / 4


def test_a_short_name_before_an_equals_sign_is_dropped_and_a_long_one_is_not() -> None:
    assert value("math_compat", "\\boxed{xy=4}", "\\boxed{4}") == 2.0
    assert value("math_compat", "\\boxed{xyz=4}", "\\boxed{4}") == 0.0


def test_where_normalising_fails_the_texts_are_compared_as_they_are() -> None:
    assert value("math_compat", "\\boxed{x / y}", "\\boxed{x/y}") == 0.0
    assert value("math_compat", "\\boxed{x/y}", "\\boxed{x/y}") == 2.0
    assert value("math_compat", "\\boxed{1 / 2}", "\\boxed{1/2}") == 2.0


def test_an_expression_is_what_python_makes_of_it() -> None:
    assert countdown("(2*4)\n-3") == 0.1
    assert countdown("(2*\n4)-3") == 1.0
    assert countdown("(-8)**(1/3)", target=0, numbers=(8, 1, 3)) == 0.1
    assert countdown("2.5*2", target=5, numbers=(2, 5, 2)) == 1.0
    assert countdown("2-3+4", target=3) == 1.0
    assert countdown("2-3+4", target=4) == 0.1
    assert countdown("4*(1/8)", target=1, numbers=(4, 1, 8)) == 0.1


@pytest.mark.parametrize(
    "text", ["9**9**9", "(9**9)**9**9", "2**(3**9)**9", "-" * 5000 + "9", "(" * 300 + "9"]
)
def test_an_expression_that_would_never_end_is_wrong(text: str) -> None:
    numbers = tuple(int(digit) for digit in text if digit.isdigit())
    assert countdown(text, numbers=numbers) == 0.1
