"""An answer's tokens under the teacher: spread over bytes, the end for the end, nothing where no text is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trims_core.analysis.difficulty import difficulty_of, order_by
from trims_core.analysis.questions import Said
from trims_core.analysis.texts import Shown


def said(nats: list[float], byte_end: list[int], n_end: int = 1) -> Said:
    return Said(np.array(nats, np.float32), np.array(byte_end, np.int32), n_end)


def sample(n_tokens: int, canvas: int = 6) -> dict[str, Any]:
    return {"sample_id": "p", "n_tokens": n_tokens, "token_ids": [1] * canvas}


def test_a_teachers_token_is_spread_over_the_students_by_bytes_and_the_end_takes_the_end() -> None:
    shown = Shown("abcd", [0, 1, 2], [1, 3, 4])
    found = difficulty_of(sample(4), shown, said([4.0, 1.0, 7.0], [2, 4, 4]), ended=True)
    assert found == [2.0, 2.5, 0.5, 7.0, None, None]


def test_without_an_end_token_nothing_takes_the_ends_value() -> None:
    shown = Shown("abcd", [0, 1, 2], [1, 3, 4])
    found = difficulty_of(sample(3), shown, said([4.0, 1.0, 7.0], [2, 4, 4]), ended=False)
    assert found == [2.0, 2.5, 0.5, None, None, None]


def test_an_end_of_several_tokens_counts_as_one() -> None:
    found = difficulty_of(sample(2), Shown("ab", [0], [2]), said([3.0, 1.0, 2.0], [2, 2, 2], 2), ended=True)
    assert found == [3.0, 3.0, None, None, None, None]


def test_tokens_without_text_inside_an_answer_have_no_difficulty() -> None:
    shown = Shown("ab", [0, 2], [1, 2])
    found = difficulty_of(sample(4), shown, said([1.0, 2.0, 9.0], [1, 2, 2]), ended=True)
    assert found == [1.0, None, 2.0, 9.0, None, None]


def test_an_answer_that_is_its_end_alone() -> None:
    assert difficulty_of(sample(1, 2), Shown("", [], []), said([5.0], [0]), ended=True) == [5.0, None]
    assert difficulty_of(sample(1, 2), Shown("", [], []), said([5.0], [0]), ended=False) == [None, None]


def test_order_is_of_tokens_with_a_difficulty() -> None:
    assert order_by([0, 1, 9, 2], [3.0, 2.0, None, 1.0]) == pytest.approx(-1.0)
    assert order_by([0, 0], [3.0, 2.0]) is order_by([1, 2], [None, None]) is None
