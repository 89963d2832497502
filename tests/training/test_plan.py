"""The schedule: what a step contains depends on settings and ids, never on how it is split."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.config import TrainConfig
from trims_core.errors import ConfigError
from trims_core.training.plan import (
    Entry,
    Padding,
    RankSampler,
    Schedule,
    accumulation_steps,
    count_steps,
    split_validation,
)


def schedule(
    n: int, batch_size: int, micro_batch_size: int, *, supervised: bool = True, seed: int = 0, shift: int = 0
):
    """n examples with lengths 5, 6, …; `shift` lists the same examples in another order."""
    order = [(i + shift) % n for i in range(n)]
    return Schedule(
        [f"id{i}" for i in order],
        np.array([2] * n),
        np.array([5 + i for i in order]),
        range(n),
        seed=seed,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        padding=Padding(supervised, 1, 4096),
    )


def flat(parts):
    return [entry for part in parts for entry in part.entries]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 23), st.sampled_from([(1, 4), (2, 2), (4, 1)]), st.integers(1, 3), st.integers(1, 6))
def test_ranks_together_see_exactly_the_micro_batches_of_one_rank(n, topology, micro, n_steps):
    world, accumulation = topology
    plan = schedule(n, 4 * micro, micro)
    alone = [batch for (batch,) in RankSampler(plan, n_steps, 4, 0)]
    ranks = [list(RankSampler(plan, n_steps, accumulation, rank)) for rank in range(world)]
    assert all(len(rank) == n_steps * accumulation for rank in ranks)
    together = [
        batch
        for step in range(n_steps)
        for rank in ranks
        for (batch,) in rank[step * accumulation : (step + 1) * accumulation]
    ]
    assert together == alone


def test_every_example_comes_once_per_epoch_and_batches_are_always_full():
    plan = schedule(7, 4, 2)
    stream = [entry for step in range(7) for entry in flat(plan.step(step))]
    assert len(stream) == 28
    for epoch in range(4):
        assert Counter(e.example for e in stream if e.epoch == epoch) == Counter(range(7))
    assert [e.epoch for e in stream] == sorted(e.epoch for e in stream)


def test_epochs_are_shuffled_differently_and_seeds_too():
    def first_epoch(plan, start):
        return [e.example for step in range(start, start + 4) for e in flat(plan.step(step))]

    assert first_epoch(schedule(16, 4, 4), 0) != first_epoch(schedule(16, 4, 4), 4)
    assert first_epoch(schedule(16, 4, 4), 0) != first_epoch(schedule(16, 4, 4, seed=1), 0)


def test_the_order_in_which_examples_are_listed_does_not_matter():
    def names(plan, ids):
        return [ids[e.example] for step in range(5) for e in flat(plan.step(step))]

    straight = names(schedule(9, 3, 1), [f"id{i}" for i in range(9)])
    shifted = names(schedule(9, 3, 1, shift=4), [f"id{(i + 4) % 9}" for i in range(9)])
    assert straight == shifted


def test_supervised_pads_reach_the_longest_of_the_global_batch_and_are_counted():
    parts = schedule(8, 8, 2).step(0)
    assert [part.pad_to for part in parts] == [12] * 4
    assert {part.n_supervised for part in parts} == {8 * (12 - 2)}


def test_unsupervised_pads_reach_the_longest_of_the_micro_batch_and_are_not_counted():
    parts = schedule(8, 8, 2, supervised=False).step(0)
    assert [part.pad_to for part in parts] == [max(5 + e.example for e in part.entries) for part in parts]
    assert {part.n_supervised for part in parts} == {sum(3 + i for i in range(8))}


@pytest.mark.parametrize(("longest", "expected"), [(1, 8), (8, 8), (9, 16), (17, 20), (20, 20)])
def test_padding_rounds_up_but_never_beyond_max_length(longest, expected):
    # a truncated completion must not be followed by end tokens
    assert Padding(True, 8, 20).length(longest) == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.floats(0, 0.99))
def test_validation_and_training_share_nothing_and_lose_nothing(n, fraction):
    ids = [f"id{i}" for i in range(n)]
    chosen, held_out = split_validation(ids, fraction)
    assert sorted(chosen + held_out) == list(range(n))
    assert chosen
    assert len(held_out) == (0 if fraction == 0 or n < 2 else min(max(1, round(fraction * n)), n - 1))


def test_validation_depends_on_ids_not_on_their_order():
    ids = [f"id{i}" for i in range(40)]
    names = {ids[i] for i in split_validation(ids, 0.2)[1]}
    backwards = ids[::-1]
    assert {backwards[i] for i in split_validation(backwards, 0.2)[1]} == names


def test_steps_follow_from_epochs_unless_max_steps_is_set():
    assert count_steps(TrainConfig(epochs=2.5, batch_size=4, micro_batch_size=4), 10) == 7
    assert count_steps(TrainConfig(epochs=2.5, max_steps=3, batch_size=4, micro_batch_size=4), 10) == 3
    assert count_steps(TrainConfig(epochs=0.01, batch_size=32), 10) == 1


def test_a_batch_that_does_not_divide_over_the_ranks_is_refused_with_both_numbers():
    config = TrainConfig(batch_size=12, micro_batch_size=4)
    assert accumulation_steps(config, 3) == 1
    with pytest.raises(ConfigError, match=r"12 is not a multiple of micro_batch_size 4 × 2"):
        accumulation_steps(config, 2)


def test_a_partial_batch_keeps_its_own_size_for_normalisation():
    parts = schedule(5, 4, 2).cut([Entry(0, 0), Entry(1, 0), Entry(2, 0)], 0)
    assert [len(part.entries) for part in parts] == [2, 1]
    assert {part.n_sequences for part in parts} == {3}
