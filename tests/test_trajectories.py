"""Canvases of any moment, rebuilt from the forward that revealed each position."""

from __future__ import annotations

import itertools

import pytest

from trims_core.trajectories import canvas_before, moments, n_steps

MASK = 9


def test_a_canvas_shows_what_earlier_forwards_revealed_and_nothing_else() -> None:
    tokens, steps = [1, 2, 3, MASK], [1, 0, 1, -1]
    assert [canvas_before(tokens, steps, k, MASK) for k in range(3)] == [
        [MASK] * 4,
        [MASK, 2, MASK, MASK],
        [1, 2, 3, MASK],
    ]
    assert n_steps(steps) == 2


@pytest.mark.parametrize("n_forwards", [1, 2, 7, 30, 31, 32, 33, 100, 257])
@pytest.mark.parametrize("limit", [2, 5, 32])
def test_moments_are_evenly_spaced_with_the_first_and_the_last_among_them(
    n_forwards: int, limit: int
) -> None:
    found = moments(n_forwards, limit)
    assert (found[0], found[-1], len(found)) == (0, n_forwards, min(limit, n_forwards + 1))
    gaps = [b - a for a, b in itertools.pairwise(found)]
    assert max(gaps) - min(gaps) <= 1
