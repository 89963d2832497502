"""Masks: their distribution, and what a draw may and may not depend on.

Tolerances of frequencies: 5 standard errors of a binomial proportion, with fixed seeds.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.keyed import draw_seed
from trims_core.masking import (
    INVERSE_T_OFFSET,
    Draws,
    Masks,
    Ordering,
    bucket_profile,
    cart_weights,
    draw,
    draw_masks,
    loss_weights,
    trajectory_probability,
)
from trims_core.variants import EndsConfig

K = 8
HALF = Ordering(K, rho=0.5, p_low=0.05, p_high=0.95, epsilon=1e-3)
TRAJECTORY = replace(HALF, rho=1.0)
STANDARD = replace(HALF, rho=0.0)


def ends_of(pads, rho=0.5, p_high=0.95) -> EndsConfig:
    """Ends masked so; how many there are and what they weigh is not this file's matter."""
    return EndsConfig(pads=pads, rho=rho, p_high=p_high, tokens=8, weight=1.0, hide_end_of_turn=False)


HIDDEN = ends_of("hidden")


def masks_of(bucket_BC, draws, ordering, *, content_BC=None, end_BC=None, ends=HIDDEN) -> Masks:
    """Masks of a batch that is all content unless told otherwise."""
    all_BC = torch.ones(bucket_BC.shape, dtype=torch.bool)
    return draw_masks(
        bucket_BC,
        all_BC if content_BC is None else content_BC,
        ~all_BC if end_BC is None else end_BC,
        draws,
        ordering,
        ends,
    )


def obvious_masks(bucket_BC, content_BC, end_BC, draws, ordering, ends):
    """The same rule in plain loops: masked, t_eff of the content, weights 1/t_eff and 1/p."""
    masked, t_eff, weights = [], [], []
    for b in range(len(bucket_BC)):
        t = ordering.epsilon + (1 - ordering.epsilon) * float(draws.noise_B[b])
        k = int(float(draws.cut_B[b]) * ordering.n_buckets)
        use_trajectory = float(draws.mixing_B[b]) < ordering.rho
        end_p = {
            "hidden": 1.0,
            "last": ends.p_high if float(draws.ends_B[b]) < ends.rho else t,
            "standard": t,
        }[ends.pads]
        row, p_row, total, n = [], [], 0.0, 0
        for c in range(len(bucket_BC[b])):
            p = (ordering.p_low if int(bucket_BC[b][c]) <= k else ordering.p_high) if use_trajectory else t
            if content_BC[b][c]:
                n, total = n + 1, total + p
            else:
                p = end_p if end_BC[b][c] else 0.0
            p_row.append(p)
            row.append(float(draws.token_BC[b][c]) < p)
        masked.append(row)
        t_eff.append(total / max(n, 1))
        weights.append(
            [
                (1 / ((p if end else t_eff[-1]) + INVERSE_T_OFFSET) if hidden else 0.0)
                for hidden, p, end in zip(row, p_row, end_BC[b], strict=True)
            ]
        )
    return torch.tensor(masked), torch.tensor(t_eff), torch.tensor(weights)


def within_five_errors(found: float, expected: float, n: int) -> bool:
    return abs(found - expected) <= 5 * math.sqrt(max(expected * (1 - expected), 1e-9) / n)


def many_draws(n: int, n_positions: int, seed: int = 0) -> Draws:
    return draw([draw_seed(seed, 0, f"example-{i}") for i in range(n)], n_positions)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 40),
    st.integers(1, 16),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(["hidden", "last", "standard"]),
    st.integers(0, 2**31),
)
def test_masks_equal_the_slow_obvious_version(n_rows, n_positions, n_buckets, rho, p_low, pads, seed):
    generator = torch.Generator().manual_seed(seed)
    bucket_BC = torch.randint(1, n_buckets + 1, (n_rows, n_positions), generator=generator)
    kind_BC = torch.rand(n_rows, n_positions, generator=generator)
    content_BC, end_BC = kind_BC < 0.6, kind_BC > 0.8
    draws = many_draws(n_rows, n_positions, seed)
    ordering, ends = Ordering(n_buckets, rho, p_low, 0.9, 1e-3), ends_of(pads, 0.4, 0.9)
    masks = draw_masks(bucket_BC, content_BC, end_BC, draws, ordering, ends)
    masked, t_eff, weights = obvious_masks(bucket_BC, content_BC, end_BC, draws, ordering, ends)
    assert torch.equal(masks.masked_BC, masked)
    torch.testing.assert_close(masks.t_eff_B, t_eff, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(loss_weights("inverse_t", masks), weights, rtol=1e-5, atol=0)


def test_hard_tokens_are_masked_less_often_and_at_the_rate_the_method_gives():
    n = 4000
    bucket_BC = torch.arange(1, K + 1).repeat(n, 1)
    masks = masks_of(bucket_BC, many_draws(n, K), TRAJECTORY)
    for b in range(1, K + 1):
        # b ≤ k for k in {b, …, K−1}: K − b of K cuts
        expected = ((K - b) * 0.05 + b * 0.95) / K
        assert within_five_errors(masks.masked_BC[:, b - 1].float().mean().item(), expected, n), b


def test_every_cut_from_0_to_k_minus_1_is_equally_likely_and_k_never_comes():
    n = 8000
    cut_B = many_draws(n, 1).cut_B
    p_BC = trajectory_probability(
        torch.arange(1, K + 1).repeat(n, 1), cut_B, Ordering(K, 1.0, 0.0, 1.0, 1e-3)
    )
    k_B = (p_BC == 0).sum(1)
    assert int(k_B.max()) == K - 1
    for k in range(K):
        assert within_five_errors((k_B == k).float().mean().item(), 1 / K, n), k


def test_the_largest_uniform_number_still_gives_a_cut_below_k():
    almost_one = torch.tensor([1 - 2**-24])
    assert (
        trajectory_probability(torch.tensor([[3]]), almost_one, Ordering(3, 1.0, 0.0, 1.0, 1e-3)).item()
        == 1.0
    )


def test_two_sided_shows_hard_tokens_first_then_any_then_leaves_the_hard_ones():
    ordering = Ordering(K, 1.0, 0.0, 1.0, 1e-3, two_sided=True)
    cut_K = (torch.arange(K) + 0.5) / K
    p_KC = trajectory_probability(torch.arange(1, K + 1).repeat(K, 1), cut_K, ordering)
    assert [row.nonzero().flatten().add(1).tolist() for row in p_KC[:3]] == [
        [1, 2, 3, 4, 5, 6, 7, 8],
        [2, 3, 4, 5, 6, 7, 8],
        [3, 4, 5, 6, 7, 8],
    ]
    for k in (3, 4, 5):
        torch.testing.assert_close(p_KC[k], torch.full((K,), (K - k) / K))
    assert [row.nonzero().flatten().add(1).tolist() for row in p_KC[6:]] == [[1, 2], [1]]


def test_rho_is_the_share_of_sequences_with_a_trajectory_mask():
    n = 8000
    ones = torch.ones(n, 1, dtype=torch.long)
    for rho in (0.0, 0.25, 1.0):
        masks = masks_of(ones, many_draws(n, 1), replace(HALF, rho=rho))
        assert within_five_errors(masks.trajectory_B.float().mean().item(), rho, n)


def test_the_standard_mask_is_uniform_in_t_above_epsilon_and_masks_a_share_t():
    n, n_positions = 3000, 64
    ones = torch.ones(n, n_positions, dtype=torch.long)
    masks = masks_of(ones, many_draws(n, n_positions), replace(STANDARD, epsilon=0.1))
    t_B = masks.t_eff_B
    assert t_B.min() >= 0.1 and t_B.max() < 1
    assert abs(t_B.mean().item() - 0.55) < 5 * 0.9 / math.sqrt(12 * n)
    share_B = masks.masked_BC.float().mean(1)
    assert (share_B - t_B).abs().mean() < math.sqrt(0.25 / n_positions)
    assert within_five_errors(masks.masked_BC.float().mean().item(), t_B.mean().item(), n * n_positions)


def test_expected_weights_per_token_are_those_the_method_states():
    # method: with 1/t_eff and k ~ U{0..7} the weight per token runs from 0.24 to 2.33
    n = 20000
    bucket_BC = torch.arange(1, K + 1).repeat(n, 1)
    masks = masks_of(bucket_BC, many_draws(n, K), TRAJECTORY)
    weight_C = loss_weights("inverse_t", masks).mean(0)
    assert weight_C[0].item() == pytest.approx(0.24, abs=0.02)
    assert weight_C[-1].item() == pytest.approx(2.33, abs=0.08)
    uniform_C = loss_weights("uniform", masks).mean(0)
    assert (uniform_C[-1] / uniform_C[0]).item() == pytest.approx(5.8, rel=0.06)
    inverse_p_C = loss_weights("inverse_p", masks, clip=20.0).mean(0)
    torch.testing.assert_close(inverse_p_C, torch.ones(K), rtol=0, atol=0.12)


@pytest.mark.parametrize("ordering", [HALF, TRAJECTORY, replace(HALF, two_sided=True)])
def test_balanced_weights_are_1_for_every_bucket_and_a_profile_gives_standard_masks_those_of_trajectories(
    ordering,
):
    n = 40000
    bucket_BC = torch.arange(1, K + 1).repeat(n, 1)
    profile_K = bucket_profile(ordering)
    trajectory = masks_of(bucket_BC, many_draws(n, K), ordering)
    chosen = {"bucket_BC": bucket_BC, "profile_K": profile_K}
    plain_K = loss_weights("inverse_t", trajectory).clamp(max=50).mean(0)
    balanced_K = loss_weights("balanced", trajectory, **chosen).clamp(max=50).mean(0)
    torch.testing.assert_close(plain_K.double(), profile_K, rtol=0, atol=0.12)
    torch.testing.assert_close(balanced_K, torch.ones(K), rtol=0, atol=0.12)
    # small t: rare, heavy weights, cut off here as their mean needs more draws
    standard = masks_of(bucket_BC, many_draws(n, K, seed=1), replace(ordering, rho=0.0))
    profiled_K = (loss_weights("bucket_profile", standard, **chosen) / profile_K).clamp(max=50).mean(0)
    torch.testing.assert_close(profiled_K, torch.ones(K).double(), rtol=0, atol=0.12)


def test_the_profile_of_trims_is_the_one_the_method_states():
    # method: 1/t_eff, trajectory sequences alone; half of them mixed with standard ones
    stated = [0.241, 0.375, 0.531, 0.714, 0.939, 1.230, 1.639, 2.331]
    assert bucket_profile(TRAJECTORY).tolist() == pytest.approx(stated, abs=6e-4)
    half = bucket_profile(HALF)
    assert (half[0].item(), half[-1].item()) == pytest.approx((0.621, 1.666), abs=6e-4)


def test_inverse_p_is_clipped():
    bucket_BC = torch.ones(500, 6, dtype=torch.long)
    masks = masks_of(bucket_BC, many_draws(500, 6), replace(TRAJECTORY, n_buckets=2))
    weight_BC = loss_weights("inverse_p", masks, clip=5.0)
    rare_BC = masks.masked_BC & (masks.probability_BC < 0.1)
    assert rare_BC.any() and set(weight_BC[rare_BC].tolist()) == {5.0}


KINDS = [STANDARD, *(replace(TRAJECTORY, two_sided=flag) for flag in (False, True)), HALF]


@pytest.mark.parametrize("pads", ["hidden", "last", "standard"])
def test_an_end_is_masked_equally_often_whatever_happens_to_the_content(pads):
    n, n_content, n_ends = 4000, 6, 8
    end_BC = (torch.arange(n_content + n_ends) >= n_content).expand(n, -1)
    draws = many_draws(n, n_content + n_ends)
    masked = []
    for ordering in KINDS:
        for buckets in (torch.arange(1, 15) % K + 1, torch.arange(14, 0, -1) % K + 1):
            masks = masks_of(
                buckets.expand(n, -1),
                draws,
                ordering,
                content_BC=~end_BC,
                end_BC=end_BC,
                ends=ends_of(pads),
            )
            masked.append(masks.masked_BC & end_BC)
            # ends never enter t_eff, and weigh 1 on average
            content_p_BC = masks.probability_BC[:, :n_content]
            torch.testing.assert_close(masks.t_eff_B, content_p_BC.mean(1), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(masked[0], other) for other in masked)
    share = masked[0][:, n_content:].float().mean().item()
    # ends of a sequence share its t: their number of independent draws is that of the sequences
    assert within_five_errors(share, {"hidden": 1.0, "last": (0.95 + 0.5) / 2, "standard": 0.5}[pads], n)


def test_hidden_ends_are_masked_in_every_sequence_and_last_ones_apart_from_the_trajectory():
    n = 4000
    end_BC = torch.tensor([[False, True]]).expand(n, -1)
    bucket_BC = torch.ones(n, 2, dtype=torch.long)
    draws = many_draws(n, 2)
    parts = {"content_BC": ~end_BC, "end_BC": end_BC}
    assert masks_of(bucket_BC, draws, HALF, **parts).masked_BC[:, 1].all()
    last = masks_of(bucket_BC, draws, HALF, **parts, ends=ends_of("last"))
    is_last_B = torch.isclose(last.probability_BC[:, 1], torch.tensor(0.95))
    assert within_five_errors((is_last_B & last.trajectory_B).float().mean().item(), 0.25, n)
    assert within_five_errors((is_last_B & ~last.trajectory_B).float().mean().item(), 0.25, n)


def test_ends_weigh_by_their_own_probability_and_like_content_where_t_counts_everything():
    n = 3000
    end_BC = (torch.arange(8) >= 4).expand(n, -1)
    bucket_BC = torch.arange(1, 9).expand(n, -1)
    draws = many_draws(n, 8)
    masks = masks_of(bucket_BC, draws, TRAJECTORY, content_BC=~end_BC, end_BC=end_BC)
    weight_BC = loss_weights("inverse_t", masks)
    torch.testing.assert_close(weight_BC[:, 4:], torch.ones(n, 4), rtol=0, atol=1e-5)
    everything_BC = loss_weights("inverse_t_all", masks)
    t_all_B = masks.probability_BC.mean(1)
    for c in range(8):
        hidden_B = masks.masked_BC[:, c]
        torch.testing.assert_close(everything_BC[hidden_B, c], 1 / t_all_B[hidden_B], rtol=1e-4, atol=0)


def test_a_draw_does_not_depend_on_batch_mates_or_canvas_length():
    seeds = [draw_seed(3, 1, name) for name in ("a", "b", "c")]
    together, alone, longer = draw(seeds, 10), draw(seeds[1:2], 10), draw(seeds[1:2], 37)
    for mine, other in zip(
        (alone.mixing_B, alone.cut_B, alone.noise_B),
        (together.mixing_B, together.cut_B, together.noise_B),
        strict=True,
    ):
        assert mine[0] == other[1]
    assert torch.equal(together.token_BC[1], alone.token_BC[0])
    assert torch.equal(longer.token_BC[0, :10], alone.token_BC[0])


def test_seed_epoch_id_and_purpose_each_change_the_draw():
    base = draw_seed(0, 0, "a")
    assert (
        len(
            {
                base,
                draw_seed(1, 0, "a"),
                draw_seed(0, 1, "a"),
                draw_seed(0, 0, "b"),
                draw_seed(0, 0, "a", "validation"),
            }
        )
        == 5
    )
    assert draw_seed(0, 0, "a") == base


def test_drawing_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    draw([1, 2], 5)
    assert torch.equal(before, torch.random.get_rng_state())


def test_unsupervised_positions_are_never_masked_and_do_not_enter_t_eff():
    n = 200
    bucket_BC = torch.ones(n, 6, dtype=torch.long)
    content_BC = torch.zeros(n, 6, dtype=torch.bool)
    content_BC[:, :2] = True
    masks = masks_of(bucket_BC, many_draws(n, 6), replace(TRAJECTORY, p_high=1.0), content_BC=content_BC)
    assert not masks.masked_BC[:, 2:].any()
    assert set(np.round(masks.t_eff_B.numpy(), 5)) == {np.float32(0.05), np.float32(1.0)}


@pytest.mark.parametrize("kind", ["inverse_t", "uniform", "inverse_p"])
def test_probability_zero_gives_no_mask_and_finite_weights(kind):
    bucket_BC = torch.ones(50, 4, dtype=torch.long)
    masks = masks_of(bucket_BC, many_draws(50, 4), replace(TRAJECTORY, p_low=0.0, p_high=0.0))
    assert not masks.masked_BC.any()
    assert torch.equal(loss_weights(kind, masks), torch.zeros(50, 4))


def obvious_cart(visible, p):
    """The sum over visible positions in plain loops."""
    return [
        sum(0.5 * p * (1 - p) ** (abs(i - j) - 1) for j in range(len(visible)) if j != i and visible[j])
        for i in range(len(visible))
    ]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.floats(0.05, 0.9))
def test_context_weights_equal_the_slow_obvious_sum(visible, p):
    expected = torch.tensor([obvious_cart(visible, p)], dtype=torch.float64)
    found = cart_weights(torch.tensor([visible]), p).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-12)


def test_context_weights_ignore_pads_that_nobody_attends_to_and_fall_on_masked_tokens_only():
    masked_BC = torch.tensor([[False, True, False, True, False, False]])
    attended_BC = torch.tensor([[True, True, True, True, False, False]])
    ones_B = torch.ones(1)
    masks = Masks(masked_BC, masked_BC.float(), attended_BC, ~attended_BC, ones_B, ones_B.bool())
    found_BC = loss_weights("cart", masks, attended_BC=attended_BC, cart_p=0.5)
    # neighbours at distance 1 give ¼, at distance 3 a sixteenth
    torch.testing.assert_close(found_BC, torch.tensor([[0, 0.5, 0, 0.25 + 0.0625, 0, 0]]))
    assert (loss_weights("cart", masks, cart_p=0.5) > found_BC).sum() == 2
