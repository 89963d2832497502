"""Which completion tokens are hidden from the student: trajectory-aware and standard masks.

Shape legend: B sequences, C completion positions (supervised pads included), K buckets; bucket 1 is the
hardest, K the easiest. Everything here is a pure function of tensors and integers: a draw depends on
(seed, epoch, example id) alone, so it is the same in another batch, on another rank and after a resume.

Source: TRIMS (arXiv 2604.00666) for the trajectory mask, LLaDA (arXiv 2502.09992) for the standard one,
Dream (arXiv 2508.15487) for the weights by near context (CART).
Prompt tokens have no position here and are therefore never masked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LossWeight = Literal["inverse_t", "uniform", "inverse_p", "cart"]
Order = Literal["descending", "ascending", "random"]

INVERSE_T_OFFSET: Final = 1e-6
"""Added to t before the division, as dLLM's MDLM trainer does, so that runs can be compared."""

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_N_SEQUENCE_DRAWS: Final = 3


@dataclass(frozen=True)
class Draws:
    """Uniform numbers in [0, 1), float32: three per sequence and one per completion position."""

    mixing_B: Tensor
    cut_B: Tensor
    noise_B: Tensor
    token_BC: Tensor


@dataclass(frozen=True)
class Masks:
    """What is hidden and how much each hidden token counts.

    masked_BC: bool, only supervised positions. probability_BC: float32, 0 outside the supervised ones.
    t_eff_B: float32, mean masking probability over the supervised positions. trajectory_B: bool.
    """

    masked_BC: Tensor
    probability_BC: Tensor
    t_eff_B: Tensor
    trajectory_B: Tensor


def draw_seed(seed: int, epoch: int, example_id: str, purpose: str = "train") -> int:
    """A 63-bit generator seed for one pass over one example."""
    text = f"{purpose}\0{seed}\0{epoch}\0{example_id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def draw(seeds: Sequence[int], n_positions: int) -> Draws:
    """The uniform numbers of a batch, one generator per sequence.

    A longer canvas only appends draws: the numbers of position c do not depend on n_positions.
    """
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        rows.append(torch.rand(_N_SEQUENCE_DRAWS + n_positions, generator=generator))
    uniform = torch.stack(rows) if rows else torch.zeros(0, _N_SEQUENCE_DRAWS + n_positions)
    return Draws(uniform[:, 0], uniform[:, 1], uniform[:, 2], uniform[:, _N_SEQUENCE_DRAWS:])


def standard_t(noise_B: Tensor, epsilon: float) -> Tensor:
    """Masking probability t_B = ε + (1−ε)·u of the standard mask, float32."""
    return epsilon + (1.0 - epsilon) * noise_B


def trajectory_probability(
    bucket_BC: Tensor, cut_B: Tensor, n_buckets: int, p_low: float, p_high: float
) -> Tensor:
    """Masking probability per token, float32 [B, C]: p_low up to the cut (context), p_high behind it.

    The cut k = ⌊K·u⌋ is uniform over 0…K−1: k = 0 masks all with p_high, k = K−1 leaves the last bucket.
    """
    k_B = torch.clamp((cut_B * n_buckets).long(), max=n_buckets - 1)
    future_BC = bucket_BC.long() > k_B[:, None]
    return torch.where(future_BC, p_high, p_low).to(torch.float32)


def draw_masks(
    bucket_BC: Tensor,
    supervised_BC: Tensor,
    draws: Draws,
    *,
    n_buckets: int,
    rho: float,
    p_low: float,
    p_high: float,
    epsilon: float,
) -> Masks:
    """The masks of a batch: each sequence takes the trajectory mask with probability rho, else the standard.

    Args:
        bucket_BC: integers 1…K in the order of training (see `order_buckets`); ignored where rho is 0.
        supervised_BC: bool; only these may be masked and only these count in t_eff.
    """
    trajectory_B = draws.mixing_B < rho
    standard_BC = standard_t(draws.noise_B, epsilon)[:, None].expand_as(draws.token_BC)
    ordered_BC = trajectory_probability(bucket_BC, draws.cut_B, n_buckets, p_low, p_high)
    probability_BC = torch.where(trajectory_B[:, None], ordered_BC, standard_BC) * supervised_BC
    masked_BC = (draws.token_BC < probability_BC) & supervised_BC
    n_supervised_B = supervised_BC.sum(1).clamp(min=1)
    t_eff_B = (probability_BC.double().sum(1) / n_supervised_B).float()
    return Masks(masked_BC, probability_BC, t_eff_B, trajectory_B)


def loss_weights(
    kind: LossWeight, masks: Masks, *, attended_BC: Tensor | None = None, cart_p: float = 0.3
) -> Tensor:
    """Weight of each masked token's cross-entropy, float32 [B, C]; 0 where nothing is masked.

    inverse_t: 1/t_eff of the sequence; inverse_p: 1/p of the token; uniform: 1; cart: see `cart_weights`.

    Args:
        attended_BC: bool, for cart alone: positions the model attends to, prompts among them; None: all.
    """
    if kind == "cart":
        visible_BC = ~masks.masked_BC if attended_BC is None else attended_BC & ~masks.masked_BC
        weight_BC = cart_weights(visible_BC, cart_p)
    elif kind == "inverse_t":
        weight_BC = (1.0 / (masks.t_eff_B + INVERSE_T_OFFSET))[:, None].expand_as(masks.probability_BC)
    elif kind == "inverse_p":
        weight_BC = 1.0 / masks.probability_BC.clamp(min=INVERSE_T_OFFSET)
    else:
        weight_BC = torch.ones_like(masks.probability_BC)
    return torch.where(masks.masked_BC, weight_BC, 0.0)


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


def order_buckets(
    buckets: Sequence[npt.NDArray[np.uint8]], ids: Sequence[str], n_buckets: int, order: Order, seed: int
) -> list[npt.NDArray[np.uint8]]:
    """The buckets in the order in which training shows tokens: 1 is shown first.

    descending: as they are (hard tokens are context first); ascending: K+1−b; random: equal-mass buckets
    of a hash of (seed, id, position) over all tokens given (sizes differ by at most 1), so that a token
    keeps its place through the epochs.
    """
    if order == "descending":
        return list(buckets)
    if order == "ascending":
        return [(n_buckets + 1 - bucket).astype(np.uint8) for bucket in buckets]
    lengths = [len(bucket) for bucket in buckets]
    if not sum(lengths):
        return list(buckets)
    hashes = np.concatenate([position_hashes(seed, name, n) for name, n in zip(ids, lengths, strict=True)])
    ranks = np.empty(len(hashes), np.int64)
    ranks[np.argsort(hashes, kind="stable")] = np.arange(len(hashes))
    shuffled = (ranks * n_buckets // len(hashes) + 1).astype(np.uint8)
    return np.split(shuffled, np.cumsum(lengths)[:-1])


def pad_buckets(
    n_buckets: int, order: Order, seed: int, example_id: str, start: int, stop: int
) -> npt.NDArray[np.uint8]:
    """Buckets of supervised pads at completion positions start…stop−1: the easiest, put through the order.

    Easiest means K when descending and 1 when ascending; in random order a pad is hashed like any token.
    """
    if order == "random":
        high_bits = position_hashes(seed, example_id, stop)[start:] >> np.uint64(32)
        return ((high_bits * np.uint64(n_buckets) >> np.uint64(32)) + np.uint64(1)).astype(np.uint8)
    return np.full(max(stop - start, 0), 1 if order == "ascending" else n_buckets, np.uint8)


def position_hashes(seed: int, example_id: str, n_positions: int) -> npt.NDArray[np.uint64]:
    """64-bit hashes of (seed, id, position), position 0…n−1 (splitmix64's finaliser over a keyed start)."""
    start = hashlib.blake2b(f"order\0{seed}\0{example_id}".encode(), digest_size=8).digest()
    with np.errstate(over="ignore"):
        x = np.frombuffer(start, np.uint64)[0] + np.arange(1, n_positions + 1, dtype=np.uint64) * _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)), np.uint64)
