"""A rollout is looked up by its prompt's id and shown as the student saw its canvas."""

from __future__ import annotations

import math

import pytest

from trims_core.rollouts.steps import Revealed, steps_of

MASK = 9


def row(order: list[int], tokens: list[int]) -> dict[str, object]:
    """Of a rollout in which the token at place i was revealed with probability 1 / (i + 1)."""
    logprobs = [None if step < 0 else -math.log(place + 1) for place, step in enumerate(order)]
    return {"token_ids": tokens, "reveal_step": order, "logprob": logprobs}


def test_each_step_shows_what_was_revealed_before_it_and_nothing_else() -> None:
    first, second, third = steps_of(row([1, 0, 1, 4, -1], [3, 4, 5, 6, MASK]), MASK)
    assert (first.number, first.before) == (0, [MASK] * 5)
    assert first.revealed == (Revealed(1, 4, pytest.approx(0.5)),)
    assert (second.number, second.before) == (1, [MASK, 4, MASK, MASK, MASK])
    assert [(one.place, one.token) for one in second.revealed] == [(0, 3), (2, 5)]
    assert (third.number, third.before) == (4, [3, 4, 5, MASK, MASK])


def test_a_rollout_without_any_reveal_has_no_step() -> None:
    assert list(steps_of(row([-1, -1], [MASK, MASK]), MASK)) == []
