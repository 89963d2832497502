"""Facts about answers against a version that goes token by token."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trims_core.analysis.answers import facts_of, run_lengths, table_of
from trims_core.errors import CorruptShardError

Sample = dict[str, Any]


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """An answer of up to 12 tokens on a canvas of 12; behind it something else, or nothing, is revealed."""
    n = draw(st.integers(1, 12))
    steps = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    behind = draw(st.lists(st.integers(-1, 6), min_size=12 - n, max_size=12 - n))
    numbers = st.floats(0, 1, width=32)
    return {
        "n_tokens": n,
        "token_ids": draw(st.lists(st.integers(0, 2), min_size=12, max_size=12)),
        "reveal_step": [*steps, *behind],
        "confidence": draw(st.lists(numbers, min_size=12, max_size=12)),
    }


def slow(sample: Sample, one: Sample) -> Sample:
    """Token by token; correlations are left to the test of ranks."""
    n = sample["n_tokens"]
    steps, ids = sample["reveal_step"][:n], sample["token_ids"]
    agrees = [ids[i] == one["token_ids"][i] if i < one["n_tokens"] else None for i in range(n)]
    runs = [1]
    for left, right in itertools.pairwise(steps):
        if left == right:
            runs[-1] += 1
        else:
            runs.append(1)
    first = None
    for step in range(max(steps) + 1):
        for place in range(n):
            if first is None and steps[place] == step and agrees[place] is False:
                first = place
    return {
        "n_tokens": n,
        "n_steps": max(steps) + 1,
        "confidence": sample["confidence"][:n],
        "agrees": agrees,
        "revealed": [steps.count(step) for step in range(max(steps) + 1)],
        "runs": runs,
        "departure_step": None if first is None else steps[first],
        "departure_place": first,
        "departure_confidence": None if first is None else sample["confidence"][first],
    }


@given(samples(), samples())
def test_facts_are_those_of_a_slow_version(sample: Sample, one: Sample) -> None:
    found = facts_of(sample, one)
    del found["order_position"], found["order_confidence"]
    assert found == slow(sample, one)


def answer(ids: list[int], steps: list[int], n: int, confidence: list[float] | None = None) -> Sample:
    return {
        "n_tokens": n,
        "token_ids": ids,
        "reveal_step": steps,
        "confidence": confidence or [0.5] * len(ids),
    }


def test_left_to_right_is_one_and_right_to_left_minus_one() -> None:
    forwards = facts_of(answer([1, 2, 3, 7], [0, 1, 2, 9], 3), answer([1, 2, 3, 7], [0, 1, 2, 3], 3))
    assert forwards["order_position"] == 1.0
    backwards = facts_of(answer([1, 2, 3], [2, 1, 0], 3), answer([1, 2, 3], [0, 1, 2], 3))
    assert backwards["order_position"] == -1.0


def test_what_is_constant_has_no_order() -> None:
    at_once = facts_of(answer([1, 2, 3], [0, 0, 0], 3), answer([1, 2, 3], [0, 1, 2], 3))
    assert (at_once["order_position"], at_once["order_confidence"]) == (None, None)


def test_ties_have_their_mean_rank() -> None:
    # by hand: ranks of steps 1.5, 1.5, 3.5, 3.5 and of places 1 … 4: 4 / sqrt(4 · 5)
    found = facts_of(answer([1, 2, 3, 4], [0, 0, 1, 1], 4), answer([1, 2, 3, 4], [0, 1, 2, 3], 4))
    assert found["order_position"] == pytest.approx(4 / 20**0.5)


def test_sure_tokens_first_is_minus_one() -> None:
    sample = answer([1, 2, 3], [0, 1, 2], 3, [0.9, 0.5, 0.1])
    assert facts_of(sample, sample)["order_confidence"] == -1.0


def test_nothing_behind_the_other_answers_end_is_compared() -> None:
    longer, shorter = answer([1, 2, 3, 4], [0, 1, 2, 3], 4), answer([1, 9, 0, 0], [0, 1, -1, -1], 2)
    found = facts_of(longer, shorter)
    assert found["agrees"] == [True, False, None, None]
    assert (found["departure_place"], found["departure_step"]) == (1, 1)
    assert facts_of(shorter, longer)["agrees"] == [True, False]


def test_a_departure_is_the_first_forward_then_the_leftmost_token() -> None:
    sample = answer([5, 6, 7, 8], [3, 1, 1, 0], 4, [0.1, 0.2, 0.3, 0.4])
    other = answer([1, 2, 3, 8], [0, 1, 2, 3], 4)
    found = facts_of(sample, other)
    assert (found["departure_step"], found["departure_place"]) == (1, 1)
    assert found["departure_confidence"] == 0.2


def test_runs_are_of_adjacent_positions() -> None:
    import numpy as np

    assert run_lengths(np.array([0, 0, 2, 0, 1, 1, 1])) == [2, 1, 1, 3]
    assert run_lengths(np.array([4])) == [1]


def test_other_problems_on_one_side_are_refused_by_name() -> None:
    sample = answer([1], [0], 1)
    with pytest.raises(CorruptShardError, match=r"other problems \(b\)"):
        table_of({"a": sample}, {"a": sample, "b": sample}, {"a": "right"})
    with pytest.raises(CorruptShardError, match="other problems"):
        table_of({"a": sample}, {"a": sample}, {"c": "right"})
