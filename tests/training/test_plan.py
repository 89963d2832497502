"""The schedule: what a step contains depends on settings and ids, never on how it is split."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.config import TrainConfig
from trims_core.errors import ConfigError
from trims_core.training.plan import (
    Padding,
    Schedule,
    accumulation_steps,
    count_ends,
    count_steps,
    split_validation,
)


def schedule(
    n: int,
    batch_size: int,
    micro_batch_size: int,
    *,
    end_tokens: int = 0,
    seed: int = 0,
    shift: int = 0,
    n_steps: int | None = None,
    window: int = 1,
    max_length: int = 4096,
):
    """n examples with lengths 5, 6, …; `shift` lists the same examples in another order."""
    order = [(i + shift) % n for i in range(n)]
    return Schedule(
        [f"id{i}" for i in order],
        np.array([2] * n),
        np.array([5 + i for i in order]),
        np.ones(n, np.bool_),
        range(n),
        seed=seed,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        padding=Padding(end_tokens, 1, max_length),
        n_steps=n_steps,
        window=window,
    )


def flat(parts):
    return [entry for part in parts for entry in part.entries]


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


@pytest.mark.parametrize("end_tokens", [0, 9])
def test_padding_reaches_the_longest_of_the_micro_batch(end_tokens):
    parts = schedule(8, 8, 2, end_tokens=end_tokens).step(0)
    for part in parts:
        assert part.pad_to == max(5 + e.example + e.n_ends for e in part.entries)


def test_the_number_of_ends_is_drawn_for_each_pass_and_ignores_batch_mates_and_their_split():
    passes = {}
    for batch_size, micro, window in ((4, 4, 1), (8, 2, 1), (8, 2, 3)):
        plan = schedule(16, batch_size, micro, end_tokens=9, window=window)
        for entry in (e for step in range(48 // batch_size) for e in flat(plan.step(step))):
            assert passes.setdefault((entry.example, entry.epoch), entry.n_ends) == entry.n_ends
    assert len({passes[3, epoch] for epoch in range(3)}) > 1
    drawn = [count_ends(0, epoch, f"id{i}", 9) for i in range(500) for epoch in range(2)]
    assert all(abs(count - 100) < 5 * 10 for count in Counter(drawn).values())
    assert sorted(Counter(drawn)) == list(range(10))
    assert schedule(4, 4, 4, end_tokens=9, seed=1).entry(0, 0) != schedule(4, 4, 4, end_tokens=9).entry(0, 0)


def test_ends_stop_at_max_length_and_a_truncated_answer_has_none():
    plan = schedule(6, 6, 6, end_tokens=9, max_length=10)
    found = [[plan.entry(example, epoch).n_ends for epoch in range(40)] for example in range(6)]
    assert [max(counts) for counts in found] == [5, 4, 3, 2, 1, 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 9), st.integers(0, 4), st.integers(0, 3))
def test_grouping_by_length_trains_on_the_same_passes_each_once(n, window, n_steps, end_tokens, seed):
    plans = [
        schedule(n, 6, 2, end_tokens=end_tokens, seed=seed, n_steps=n_steps, window=w) for w in (1, window)
    ]
    plain, grouped = ([flat(plan.step(s)) for s in range(n_steps)] for plan in plans)
    assert all(len(step) == 6 for step in grouped)
    everything = [Counter(entry for step in steps for entry in step) for steps in (plain, grouped)]
    assert everything[0] == everything[1]
    # nothing leaves its window, so that epochs stay epochs up to a window's length
    for start in range(0, n_steps, window):
        part = slice(start, start + window)
        assert Counter(e for s in plain[part] for e in s) == Counter(e for s in grouped[part] for e in s)


def test_grouping_by_length_depends_on_neither_the_listing_nor_the_steps_asked_before():
    def names(plan, steps, ids):
        return {step: [ids[e.example] for e in flat(plan.step(step))] for step in steps}

    options = {"end_tokens": 3, "n_steps": 12, "window": 4}
    straight = names(schedule(30, 6, 2, **options), range(12), [f"id{i}" for i in range(30)])
    resumed = names(
        schedule(30, 6, 2, **options, shift=7), range(11, 4, -1), [f"id{(i + 7) % 30}" for i in range(30)]
    )
    assert all(straight[step] == found for step, found in resumed.items())
    assert straight != names(schedule(30, 6, 2, **options, seed=1), range(12), [f"id{i}" for i in range(30)])


def test_a_grouped_step_holds_short_and_long_sequences_in_micro_batches_of_like_length():
    plan = schedule(64, 16, 4, n_steps=4, window=4)
    for step in range(4):
        parts = plan.step(step)
        assert all(
            max(e.example for e in part.entries) - min(e.example for e in part.entries) == 3 for part in parts
        )
        # one micro-batch from each quarter of the lengths
        assert [part.entries[0].example // 16 for part in parts] == [0, 1, 2, 3]


def test_grouping_counts_the_ends_of_a_sequence_as_its_length():
    plan = schedule(64, 16, 4, end_tokens=40, n_steps=4, window=4)
    for step in range(4):
        bounds = [
            (min(lengths), max(lengths))
            for part in plan.step(step)
            for lengths in [[5 + e.example + e.n_ends for e in part.entries]]
        ]
        assert all(high <= low for (_, high), (low, _) in itertools.pairwise(bounds))


def test_grouping_is_the_default_unless_a_step_is_one_micro_batch():
    assert TrainConfig().window == 16
    assert TrainConfig(batch_size=8, micro_batch_size=8).window == 1
    assert TrainConfig(length_window=3).window == 3


@pytest.mark.parametrize("window", [1, 16])
def test_lengths_of_reasoning_traces_need_at_most_a_tenth_of_dead_columns_when_grouped(window):
    # about log-normal, with the mean and the spread of the traces whose quantiles bench/padding.py holds
    lengths = np.exp(np.random.default_rng(0).normal(6.67, 0.49, 1000)).astype(np.int64).clip(248, 2048)
    plan = Schedule(
        [f"id{i}" for i in range(1000)],
        np.full(1000, 40),
        lengths,
        np.ones(1000, np.bool_),
        range(1000),
        seed=0,
        batch_size=32,
        micro_batch_size=4,
        padding=Padding(32, 1, 2048),
        n_steps=93,
        window=window,
    )
    parts = [part for step in range(93) for part in plan.step(step)]
    n_fed = sum(part.pad_to * len(part.entries) for part in parts)
    share = 1 - sum(int(lengths[e.example]) + e.n_ends for e in flat(parts)) / n_fed
    assert (share <= 0.1) == (window == 16)


@pytest.mark.parametrize(("longest", "expected"), [(1, 8), (8, 8), (9, 16), (17, 20), (20, 20)])
def test_padding_rounds_up_but_never_beyond_max_length(longest, expected):
    assert Padding(32, 8, 20).length(longest) == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.floats(0, 0.99))
def test_validation_and_training_share_nothing_and_lose_nothing(n, fraction):
    ids = [f"id{i}" for i in range(n)]
    chosen, held_out = split_validation(ids, fraction)
    assert sorted([*chosen, *held_out]) == list(range(n))
    assert len(chosen)
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


def test_equal_forwards_are_fewer_steps_of_a_method_with_several_passes():
    config = TrainConfig(max_steps=3, max_forwards=7)
    assert [count_steps(config, 10, passes) for passes in (1, 2, 3, 9)] == [7, 3, 2, 1]


def test_a_batch_that_does_not_divide_over_the_ranks_is_refused_with_both_numbers():
    config = TrainConfig(batch_size=12, micro_batch_size=4)
    assert accumulation_steps(config, 3) == 1
    with pytest.raises(ConfigError, match=r"12 is not a multiple of micro_batch_size 4 × 2"):
        accumulation_steps(config, 2)


def test_all_answers_to_a_prompt_are_on_one_side_of_the_validation():
    prompts = [f"p{i // 3}" for i in range(60)]
    chosen, held_out = split_validation([f"{name}#{i}" for i, name in enumerate(prompts)], 0.2, prompts)
    left, right = ({prompts[i] for i in side} for side in (chosen, held_out))
    assert len(right) == 4 and not left & right and len(chosen) + len(held_out) == 60
