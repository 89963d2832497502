"""Numbers in answers: which one counts, and what a comma is."""

from __future__ import annotations

import pytest

from trims_core.benchmarks import get_grader

NAMES = ("number_strict", "number_flexible", "number_first_box", "number_last_box")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("number_strict", "#### 18", "18"),
        ("number_strict", "#### 1,234.", "1234"),
        ("number_strict", "#### 3\n#### 4", "3"),
        ("number_strict", "The answer is 18.", "18"),
        ("number_strict", "The answer is 18 dollars", "18"),
        ("number_strict", "The answer is 18", None),
        ("number_strict", "The answer is 1.5\n", None),
        ("number_strict", "The answer is 3. #### 4", "4"),
        ("number_strict", "It is 18.", None),
        ("number_strict_no_commas", "#### 1,234", "1"),
        ("number_flexible", "3 or 18", "18"),
        ("number_flexible", "$1,234.00", "1234"),
        ("number_flexible", "from -3", "-3"),
        ("number_flexible", "18 and so on...", None),
        ("number_flexible", "seven", None),
        ("number_flexible_no_commas", "1,234", "234"),
        ("number_flexible_text", "$1,234.00", "1234.00"),
        ("number_flexible_text", "so 18.", "18"),
        ("number_first_box", r"\boxed{3} \boxed{4}", "3"),
        ("number_first_box", r"\boxed{x} \boxed{4}", "4"),
        ("number_first_box", r"\boxed{\text{about } 1{,}234 \text{ or } 5}", "1234"),
        ("number_first_box", r"\boxed{-\$5}", "-5"),
        ("number_first_box", r"\boxed{1,\!000}", "1000"),
        ("number_first_box", r"\boxed{5", None),
        ("number_first_box", "5", None),
        ("number_first_box_no_commas", r"\boxed{1,234}", "1"),
        ("number_last_box", r"\boxed{3} \boxed{4} \boxed{x}", "4"),
        ("number_last_box", r"\boxed{3} \boxed{4", "3"),
        ("number_last_box_no_commas", r"\boxed{1,234}", "1"),
    ],
)
def test_the_number_of_a_text(name: str, text: str, expected: str | None) -> None:
    assert get_grader(name).extract(text) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_data_sets_answer_is_read_as_a_number_or_as_an_answer(name: str) -> None:
    grader = get_grader(name)
    assert [grader.gold_of(text) for text in ("1,036", "$5.00", "many")] == ["1036", "5", None]
    assert grader.gold_of({"number_strict": "So: #### 7"}.get(name, r"Hence \boxed{7}")) == "7"


def test_the_harness_compares_text_and_this_one_numbers() -> None:
    verdicts = [
        get_grader(name).grade("It costs $18.00", "18").verdict
        for name in ("number_flexible", "number_flexible_text")
    ]
    assert verdicts == ["right", "wrong"]
