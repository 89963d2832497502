"""Which completion tokens are hidden from the student: trajectory-aware and standard masks, and the ends.

Shape legend: B sequences, C completion positions, K buckets; bucket 1 is the hardest, K the easiest. A
completion position is content (the answer and its end of turn), a supervised end behind the answer, or
neither. Ends have a masking rule of their own, the same for every order: an end that is visible as context
tells the student how long the answer is, which no canvas tells it when it decodes.

Everything here is a pure function of tensors and integers: a draw depends on (seed, epoch, example id)
alone, so it is the same in another batch, on another rank and after a resume.

Source: TRIMS (arXiv 2604.00666) for the trajectory mask, LLaDA (arXiv 2502.09992) for the standard one,
Dream (arXiv 2508.15487) for the weights by near context (CART).
Prompt tokens have no position here and are therefore never masked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from trims_core.variants import EndsConfig, LossWeight

INVERSE_T_OFFSET: Final = 1e-6
"""Added to t before the division, as dLLM's MDLM trainer does, so that runs can be compared."""
_N_SEQUENCE_DRAWS: Final = 4


@dataclass(frozen=True)
class Draws:
    """Uniform numbers in [0, 1), float32: four per sequence and one per completion position."""

    mixing_B: Tensor
    cut_B: Tensor
    noise_B: Tensor
    ends_B: Tensor
    token_BC: Tensor


@dataclass(frozen=True)
class Ordering:
    """How trajectory masks are drawn.

    rho: probability that a sequence takes the trajectory mask instead of the standard one. two_sided: see
    `trajectory_probability`. epsilon: smallest t of the standard mask.
    """

    n_buckets: int
    rho: float
    p_low: float
    p_high: float
    epsilon: float
    two_sided: bool = False


@dataclass(frozen=True)
class Masks:
    """What is hidden and how much each hidden token counts.

    masked_BC: bool, only supervised positions. probability_BC: float32, 0 outside the supervised ones.
    content_BC, end_BC: bool. t_eff_B: float32, mean masking probability over the content. trajectory_B: bool.
    """

    masked_BC: Tensor
    probability_BC: Tensor
    content_BC: Tensor
    end_BC: Tensor
    t_eff_B: Tensor
    trajectory_B: Tensor


def draw(seeds: Sequence[int], n_positions: int) -> Draws:
    """The uniform numbers of a batch, one generator per sequence.

    A longer canvas only appends draws: the numbers of position c do not depend on n_positions.
    """
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        rows.append(torch.rand(_N_SEQUENCE_DRAWS + n_positions, generator=generator))
    uniform = torch.stack(rows) if rows else torch.zeros(0, _N_SEQUENCE_DRAWS + n_positions)
    mixing_B, cut_B, noise_B, ends_B = uniform[:, :_N_SEQUENCE_DRAWS].unbind(1)
    return Draws(mixing_B, cut_B, noise_B, ends_B, uniform[:, _N_SEQUENCE_DRAWS:])


def standard_t(noise_B: Tensor, epsilon: float) -> Tensor:
    """Masking probability t_B = ε + (1−ε)·u of the standard mask, float32."""
    return epsilon + (1.0 - epsilon) * noise_B


def trajectory_probability(bucket_BC: Tensor, cut_B: Tensor, ordering: Ordering) -> Tensor:
    """Masking probability per token, float32 [B, C]: p_low up to the cut (context), p_high behind it.

    The cut k = ⌊K·u⌋ is uniform over 0…K−1: k = 0 masks all with p_high, k = K−1 leaves the last bucket.
    Two-sided: the first three eighths of the cuts are as they are (hard tokens are context first), in the
    next three every token has the cut's mean probability, in the rest the order is turned round (the hard
    tokens are what is still masked).
    """
    n_buckets, p_low, p_high = ordering.n_buckets, ordering.p_low, ordering.p_high
    k_B1 = torch.clamp((cut_B * n_buckets).long(), max=n_buckets - 1)[:, None]
    bucket_BC = bucket_BC.long()
    if not ordering.two_sided:
        return torch.where(bucket_BC > k_B1, p_high, p_low).to(torch.float32)
    is_late_B1 = 8 * k_B1 >= 6 * n_buckets
    is_even_B1 = (8 * k_B1 >= 3 * n_buckets) & ~is_late_B1
    place_BC = torch.where(is_late_B1, n_buckets + 1 - bucket_BC, bucket_BC)
    mean_B1 = (k_B1 * p_low + (n_buckets - k_B1) * p_high) / n_buckets
    return torch.where(is_even_B1, mean_B1, torch.where(place_BC > k_B1, p_high, p_low)).to(torch.float32)


def draw_masks(
    bucket_BC: Tensor, content_BC: Tensor, end_BC: Tensor, draws: Draws, ordering: Ordering, ends: EndsConfig
) -> Masks:
    """The masks of a batch: each sequence takes the trajectory mask with probability rho, else the standard.

    Args:
        bucket_BC: integers 1…K in the order of training (see `training/orders.py`); ignored where rho is 0.
        content_BC: bool; the answers' tokens. They alone follow the trajectory and count in t_eff.
        end_BC: bool; supervised ends, disjoint from the content.
    """
    # 1. content: a trajectory's probabilities, or one t for all
    trajectory_B = draws.mixing_B < ordering.rho
    t_B = standard_t(draws.noise_B, ordering.epsilon)
    ordered_BC = trajectory_probability(bucket_BC, draws.cut_B, ordering)
    content_p_BC = torch.where(trajectory_B[:, None], ordered_BC, t_B[:, None]) * content_BC
    # 2. ends: a rule that knows nothing of trajectories
    end_p_B = end_probability(draws.ends_B, t_B, ends)
    probability_BC = torch.where(end_BC, end_p_B[:, None], content_p_BC)
    # 3. what is hidden, and t_eff over the content
    masked_BC = (draws.token_BC < probability_BC) & (content_BC | end_BC)
    t_eff_B = mean_probability(probability_BC, content_BC)
    return Masks(masked_BC, probability_BC, content_BC, end_BC, t_eff_B, trajectory_B)


def mean_probability(probability_BC: Tensor, where_BC: Tensor) -> Tensor:
    """Mean masking probability over some positions of each sequence, float32 [B]; 0 where there are none."""
    return ((probability_BC * where_BC).double().sum(1) / where_BC.sum(1).clamp(min=1)).float()


def end_probability(ends_B: Tensor, t_B: Tensor, ends: EndsConfig) -> Tensor:
    """Masking probability of a sequence's supervised ends, float32 [B].

    hidden: 1. last: p_high in a share `rho` of the sequences, drawn apart from the trajectories, and the
    sequence's t of the standard mask in the others. standard: that t.
    """
    if ends.pads == "hidden":
        return torch.ones_like(t_B)
    if ends.pads == "last":
        return torch.where(ends_B < ends.rho, ends.p_high, t_B)
    return t_B


def loss_weights(
    kind: LossWeight,
    masks: Masks,
    *,
    bucket_BC: Tensor | None = None,
    profile_K: Tensor | None = None,
    clip: float = math.inf,
    attended_BC: Tensor | None = None,
    cart_p: float = 0.0,
) -> Tensor:
    """Weight of each masked token's cross-entropy, float32 [B, C]; 0 where nothing is masked.

    inverse_t: 1/t_eff of the sequence. inverse_t_all: the same with the ends counted in t. balanced: 1/t_eff
    divided by the bucket's `bucket_profile`, so that every bucket weighs 1 on average. bucket_profile: 1/t
    times it, which gives standard masks the buckets' weights of trajectory masks. inverse_p: 1/p of the
    token, at most `clip`. uniform: 1. cart: see `cart_weights`.

    Ends weigh 1/p of their own (1 where they are hidden), so that they weigh 1 on average too; like any token
    under uniform, inverse_p, cart and inverse_t_all.

    Args:
        bucket_BC, profile_K: for balanced and bucket_profile alone; buckets in the order of training.
        clip: for inverse_p alone. cart_p: for cart alone.
        attended_BC: bool, for cart alone: positions the model attends to, prompts among them; None: all.
    """
    if kind == "cart":
        visible_BC = ~masks.masked_BC if attended_BC is None else attended_BC & ~masks.masked_BC
        return torch.where(masks.masked_BC, cart_weights(visible_BC, cart_p), 0.0)
    if kind == "uniform":
        return masks.masked_BC.float()
    inverse_p_BC = 1.0 / (masks.probability_BC + INVERSE_T_OFFSET)
    if kind == "inverse_p":
        weight_BC = inverse_p_BC.clamp(max=clip)
    elif kind == "inverse_t_all":
        t_B = mean_probability(masks.probability_BC, masks.content_BC | masks.end_BC)
        weight_BC = (1.0 / (t_B + INVERSE_T_OFFSET))[:, None].expand_as(inverse_p_BC)
    else:
        factor_BC = _profile_factor(kind, bucket_BC, profile_K)
        content_BC = factor_BC * (1.0 / (masks.t_eff_B + INVERSE_T_OFFSET))[:, None]
        weight_BC = torch.where(masks.end_BC, inverse_p_BC, content_BC)
    return torch.where(masks.masked_BC, weight_BC, 0.0)


def _profile_factor(kind: LossWeight, bucket_BC: Tensor | None, profile_K: Tensor | None) -> Tensor:
    """What a bucket's 1/t_eff is multiplied by, [B, C] or a 1."""
    if kind == "inverse_t":
        return torch.ones(1)
    if bucket_BC is None or profile_K is None:
        raise ValueError(f"loss weight {kind} needs the tokens' buckets and their profile")
    profile_BC = profile_K.float()[bucket_BC.long() - 1]
    return 1.0 / profile_BC if kind == "balanced" else profile_BC


def bucket_profile(ordering: Ordering) -> Tensor:
    """Expected 1/t_eff weight of a token by its bucket, float64 [K], in sequences of equal-mass buckets.

    1 − rho + rho·mean over the cuts of p(bucket, cut) / t(cut), t the mean of p over the buckets.
    Source: own derivation; simulated in tests/test_masking.py.
    """
    n_buckets = ordering.n_buckets
    bucket_KC = torch.arange(1, n_buckets + 1).expand(n_buckets, n_buckets)
    cut_K = (torch.arange(n_buckets) + 0.5) / n_buckets
    p_KC = trajectory_probability(bucket_KC, cut_K, ordering).double()
    weight_KC = p_KC / (p_KC.mean(1, keepdim=True) + INVERSE_T_OFFSET)
    return 1.0 - ordering.rho + ordering.rho * weight_KC.mean(0)


def cart_weights(visible_BC: Tensor, p: float) -> Tensor:
    """½ Σ_j p·(1−p)^(|i−j|−1) over the visible positions j ≠ i, float32 [B, C]: near 1 amid context.

    Source: Dream's context-adaptive noise rescheduling with a symmetric geometric kernel; the sum is a
    convolution and taken in float64, so that far, small terms survive.
    """
    n_positions = visible_BC.shape[1]
    distance = torch.arange(-n_positions, n_positions, dtype=torch.float64).abs()
    kernel = torch.where(distance == 0, 0.0, 0.5 * p * (1.0 - p) ** (distance - 1.0)).roll(-n_positions)
    n_padded = 2 * n_positions
    spectrum_BF = torch.fft.rfft(visible_BC.double(), n=n_padded) * torch.fft.rfft(kernel)
    return torch.fft.irfft(spectrum_BF, n=n_padded)[:, :n_positions].clamp(min=0.0).float()
