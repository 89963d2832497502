"""The unigram teacher: −log of a token's share of all observed completion tokens, counted by hand."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trims_core.errors import TeacherError
from trims_core.teacher.protocol import CorpusObserver, Request
from trims_core.teacher.unigram_teacher import UnigramTeacher

END = 9
ROWS = [
    Request("a", [1, 2, 3], [5, 5, 7, END]),
    Request("b", [5, 5, 5], [5, END]),
    Request("c", [4], [8, END]),
]


def quiet(_note: str) -> None:
    return None


def observed(*batches: list[Request]) -> UnigramTeacher:
    teacher = UnigramTeacher()
    for batch in batches:
        teacher.observe(batch)
    return teacher


def test_values_are_those_counted_by_hand_prompts_left_out() -> None:
    # completions: 5 5 7 9 | 5 9 | 8 9: eight tokens, 5 three times, 9 three times, 7 and 8 once
    replies = {reply.id: reply for reply in observed(ROWS).score(ROWS, quiet)}
    often, once = math.log(8 / 3), math.log(8)
    assert replies["a"].nll_nats == pytest.approx([often, often, once, often], rel=1e-12)
    assert replies["b"].nll_nats == pytest.approx([often, often], rel=1e-12)
    assert replies["c"].nll_nats == pytest.approx([once, often], rel=1e-12)


def test_the_entropy_orders_nothing_and_is_not_given() -> None:
    assert {reply.entropy_nats for reply in observed(ROWS).score(ROWS, quiet)} == {None}


def test_neither_batches_nor_their_order_show() -> None:
    usual = list(observed(ROWS).score(ROWS, quiet))
    assert list(observed(ROWS[2:], ROWS[:1], ROWS[1:2]).score(ROWS, quiet)) == usual
    teacher = observed(ROWS)
    assert [reply for row in ROWS for reply in teacher.score([row], quiet)] == usual


@given(st.lists(st.lists(st.integers(0, 5), min_size=1), min_size=1))
def test_probabilities_are_shares_of_all_tokens(targets: list[list[int]]) -> None:
    rows = [Request(str(i), [0], ids) for i, ids in enumerate(targets)]
    found = {reply.id: reply.nll_nats for reply in observed(rows).score(rows, quiet)}
    tokens = [token for ids in targets for token in ids]
    for row in rows:
        for token, nats in zip(row.target_ids, found[row.id], strict=True):
            assert math.exp(-nats) == pytest.approx(Counter(tokens)[token] / len(tokens))
            assert nats >= 0


def test_it_observes_the_corpus_and_says_how_much() -> None:
    teacher = observed(ROWS)
    assert isinstance(teacher, CorpusObserver)
    assert teacher.start(10, quiet).facts == {"tokens": 8, "distinct": 4}


def test_a_row_that_was_not_observed_is_an_error() -> None:
    with pytest.raises(TeacherError, match=r"token 8 of row 'c' was not counted.*observe"):
        list(observed(ROWS[:2]).score(ROWS, quiet))
