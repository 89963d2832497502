"""What the model proposes for the candidate positions of a batch, and how sure it is.

Probabilities are computed from float32 sums of exp(l − l_max) that leave the proposed token's own term
out: 1/(1 + rest) keeps the order even of tokens whose probability rounds to 1. A candidate closer than 1e-6
to another one or to a rule's threshold is computed again in float64, so that the decision is that of a
float64 softmax.

Shapes: B sequences in the batch, G canvas positions, N candidates of all sequences together, V vocabulary,
K confidences that a rule compares with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from trims_core.decoding.sampling import Sampling
from trims_core.errors import SweepError

CLOSE: Final = 1e-6
"""Differences of confidence below which float64 decides."""
_NEVER: Final = -1e9
"""A logit nothing reaches; finite, so that 0 · (its distance from the maximum) stays 0."""
_HEAD_LOGITS: Final = {"cpu": 1 << 23}
_READ_LOGITS: Final = {"cpu": 1 << 19}
"""Logits made by one product of the head, and read at once: on a CPU a few rows that stay in its cache."""
_GPU_LOGITS: Final = 1 << 26


@dataclass(frozen=True)
class Progress:
    """Where every sequence stands before a reveal."""

    masked_BG: torch.Tensor
    """bool: positions not yet revealed."""
    block_range_B2: torch.Tensor
    """int64: the first position of the current block, the first with a masked position, and the one behind
    its last."""
    block_step_B: torch.Tensor
    """int64: forwards the sequence has already spent on it."""
    step_B: torch.Tensor
    """int64: forwards the sequence has already spent."""
    last_block_B: torch.Tensor
    """int64: the current block of the sequence's last forward; −1 before its first."""
    block_lengths: tuple[int, ...]
    cached: bool
    """Whether only the first forward of a block is fed everything."""

    @property
    def gen_length(self) -> int:
        """Positions of the canvas."""
        return self.masked_BG.shape[1]

    def current_block(self) -> torch.Tensor:
        """bool [B, G]: masked positions before the end of the current block."""
        place_G = torch.arange(self.gen_length, device=self.masked_BG.device)
        return self.masked_BG & (place_G < self.block_range_B2[:, 1:])


@dataclass(frozen=True)
class Proposals:
    """One forward's answer at every candidate; a reveal rule reads this and nothing else."""

    progress: Progress
    candidate_BG: torch.Tensor
    """bool: positions that may be revealed; at least one per sequence."""
    token_BG: torch.Tensor
    """int64: the proposed token, never [MASK]; 0 where not a candidate."""
    confidence_BG: torch.Tensor
    """float64: probability of that token; −inf where not a candidate."""
    entropy_BG: torch.Tensor
    """float32: entropy of the distribution in nats; +inf where not a candidate."""
    is_eos_BG: torch.Tensor
    """bool: the proposed token is the end of the sequence (not the end of a turn)."""


@dataclass(frozen=True)
class _Answers:
    """The same at N candidates; `rest` is (1 − p)/p of the proposed token."""

    token_N: torch.Tensor
    rest_N: torch.Tensor
    entropy_N: torch.Tensor


def propose(
    progress: Progress,
    candidate_BG: torch.Tensor,
    logits_of: Callable[[slice], torch.Tensor],
    vocab_size: int,
    *,
    mask_id: int,
    eos_id: int,
    sampling: Sampling,
    noise: Callable[[slice], torch.Tensor] | None,
    levels: Sequence[float],
) -> Proposals:
    """The proposals of one forward.

    Args:
        logits_of: logits [n, V] of a range of the candidates, numbered row by row.
        noise: uniform numbers in (0, 1), float64 [n, V], for the same range; None at temperature 0.
        levels: confidences a rule compares with.

    Raises:
        SweepError: a candidate's logits are not finite (NaN, +inf, or −inf for every token but [MASK]).
    """
    kind = candidate_BG.device.type
    counts = candidate_BG.sum(dim=1).tolist()
    parts: list[_Answers] = []
    for chunk in _whole_sequences(counts, max(1, _HEAD_LOGITS.get(kind, _GPU_LOGITS) // vocab_size)):
        logits_NV = logits_of(chunk)
        noise_NV = None if noise is None else noise(chunk)
        few = max(1, _READ_LOGITS.get(kind, _GPU_LOGITS) // vocab_size)
        answers = _joined(
            _answers(
                logits_NV[i : i + few], mask_id, None if noise_NV is None else noise_NV[i : i + few], sampling
            )
            for i in range(0, chunk.stop - chunk.start, few)
        )
        close_N = _close(answers.rest_N, levels)
        if close_N.any():
            answers.rest_N[close_N] = _exact_rest(
                logits_NV[close_N], mask_id, answers.token_N[close_N], sampling
            )
        parts.append(answers)
    found = _joined(parts)
    token_N, rest_N = found.token_N, found.rest_N
    _refuse_non_finite(rest_N)
    shape, device = candidate_BG.shape, candidate_BG.device
    token_BG = torch.zeros(shape, dtype=torch.int64, device=device)
    token_BG[candidate_BG] = token_N
    confidence_BG = torch.full(shape, -torch.inf, dtype=torch.float64, device=device)
    confidence_BG[candidate_BG] = 1 / (1 + rest_N)
    entropy_BG = torch.full(shape, torch.inf, dtype=torch.float32, device=device)
    entropy_BG[candidate_BG] = found.entropy_N
    is_eos_BG = candidate_BG & (token_BG == eos_id)
    return Proposals(progress, candidate_BG, token_BG, confidence_BG, entropy_BG, is_eos_BG)


def _whole_sequences(counts: Sequence[int], limit: int) -> Iterator[slice]:
    """Ranges of candidates with all those of some sequences each: up to `limit`, or a single sequence's."""
    start = end = 0
    for count in counts:
        if end > start and end + count - start > limit:
            yield slice(start, end)
            start = end
        end += count
    yield slice(start, end)


def _joined(parts: Iterable[_Answers]) -> _Answers:
    tokens, rests, entropies = zip(
        *((part.token_N, part.rest_N, part.entropy_N) for part in parts), strict=True
    )
    return _Answers(torch.cat(tokens), torch.cat(rests), torch.cat(entropies))


def _prepared(logits_NV: torch.Tensor, mask_id: int, sampling: Sampling) -> torch.Tensor:
    """Float32 logits with suppressed tokens out of reach, tempered and cut to the nucleus if asked."""
    logits_NV = logits_NV.float()
    if sampling.suppress_ids:
        logits_NV[:, sorted(sampling.suppress_ids)] = _NEVER
    if sampling.tempered_confidence and sampling.temperature > 0:
        logits_NV = logits_NV / sampling.temperature
    if sampling.top_p < 1 or sampling.top_k is not None:
        return _nucleus(logits_NV, mask_id, sampling)
    return logits_NV


def _nucleus(logits_NV: torch.Tensor, mask_id: int, sampling: Sampling) -> torch.Tensor:
    """The most probable tokens alone, the others out of reach; one besides [MASK] is always among them."""
    kept_NV = logits_NV
    if sampling.top_p < 1:
        sorted_NV, order_NV = kept_NV.sort(dim=-1, descending=True)
        probability_NV = sorted_NV.softmax(dim=-1)
        outside_NV = probability_NV.cumsum(dim=-1) - probability_NV > sampling.top_p
        kept_NV = kept_NV.scatter(1, order_NV, sorted_NV.masked_fill(outside_NV, _NEVER))
    if sampling.top_k is not None and sampling.top_k < kept_NV.shape[1]:
        least_N1 = kept_NV.topk(sampling.top_k, dim=-1).values[:, -1:]
        kept_NV = kept_NV.masked_fill(kept_NV < least_N1, _NEVER)
    mask = torch.tensor([mask_id], device=logits_NV.device)
    best_N1 = logits_NV.index_fill(1, mask, -torch.inf).argmax(dim=-1, keepdim=True)
    return kept_NV.scatter(1, best_N1, logits_NV.gather(1, best_N1))


def _chosen(
    logits_NV: torch.Tensor, mask_id: int, uniform_NV: torch.Tensor | None, sampling: Sampling
) -> torch.Tensor:
    """int64 [N]: the token proposed at each candidate, never [MASK]; puts every logit back."""
    mask_N = logits_NV[:, mask_id].clone()
    logits_NV[:, mask_id] = -torch.inf
    if uniform_NV is None:
        token_N = logits_NV.argmax(dim=-1)
    else:
        size = 1.0 if sampling.tempered_confidence else sampling.temperature
        token_N = (logits_NV.double() - size * torch.log(-torch.log(uniform_NV))).argmax(dim=-1)
    logits_NV[:, mask_id] = mask_N
    return token_N


def _answers(
    logits_NV: torch.Tensor, mask_id: int, uniform_NV: torch.Tensor | None, sampling: Sampling
) -> _Answers:
    """The proposed tokens, how sure the model is of them, and the entropy of what it says."""
    logits_NV = _prepared(logits_NV, mask_id, sampling)
    token_N = _chosen(logits_NV, mask_id, uniform_NV, sampling)
    own_N1 = token_N[:, None]
    entropy_N, rest_N = _entropy_and_rest(logits_NV, own_N1)
    if torch.isnan(entropy_N).any():
        entropy_N, rest_N = _entropy_and_rest(logits_NV.clamp(min=_NEVER), own_N1)
    if sampling.begin_suppress_ids:
        hidden = torch.tensor(sorted(sampling.begin_suppress_ids), device=logits_NV.device)
        _, rest_N = _entropy_and_rest(logits_NV.index_fill(1, hidden, _NEVER), own_N1)
        rest_N = torch.where(torch.isin(token_N, hidden), torch.inf, rest_N)
    # nothing but [MASK] was possible
    rest_N[torch.isneginf(logits_NV.gather(1, own_N1)[:, 0])] = torch.nan
    return _Answers(token_N, rest_N, entropy_N)


def _entropy_and_rest(logits_NV: torch.Tensor, own_N1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Entropy in nats, float32 [N], and (1 − p)/p of the proposed token, float64 [N]."""
    distance_NV = logits_NV - logits_NV.max(dim=-1, keepdim=True).values
    share_NV = torch.exp(distance_NV)
    weighted_N = torch.linalg.vecdot(share_NV, distance_NV)
    own_N = share_NV.gather(1, own_N1)[:, 0]
    share_NV.scatter_(1, own_N1, 0.0)
    others_N = share_NV.sum(dim=-1)
    total_N = own_N + others_N
    entropy_N = (torch.log(total_N) - weighted_N / total_N).clamp(min=0)
    return entropy_N, others_N.double() / own_N.double()


def _exact_rest(
    logits_NV: torch.Tensor, mask_id: int, token_N: torch.Tensor, sampling: Sampling
) -> torch.Tensor:
    """(1 − p)/p of the proposed tokens by a float64 softmax, float64 [N]; equal where the sum's order alone
    makes a difference (1e-13)."""
    wide_NV = _prepared(logits_NV, mask_id, sampling).double()
    wide_NV[:, sorted(sampling.begin_suppress_ids)] = _NEVER
    own_N1 = token_N[:, None]
    share_NV = torch.exp(wide_NV - wide_NV.gather(1, own_N1)).scatter_(1, own_N1, 0.0)
    mantissa_N, exponent_N = torch.frexp(share_NV.sum(dim=-1))
    return torch.ldexp(torch.round(mantissa_N * 2.0**43) / 2.0**43, exponent_N)


def _close(rest_N: torch.Tensor, levels: Sequence[float]) -> torch.Tensor:
    """bool [N]: float32 may not tell this candidate from another one, or on which side of a level it is."""
    sorted_N, order_N = rest_N.sort()
    near_N = torch.zeros_like(rest_N, dtype=torch.bool)
    twins_N = sorted_N.diff() <= 4 * CLOSE * sorted_N[1:]
    near_N[order_N[1:]] = twins_N
    near_N[order_N[:-1]] |= twins_N
    if levels:
        levels_K = torch.tensor(levels, dtype=rest_N.dtype, device=rest_N.device)
        near_N |= ((1 / (1 + rest_N))[:, None] - levels_K).abs().amin(dim=1) < CLOSE
    return near_N & torch.isfinite(rest_N)


def _refuse_non_finite(rest_N: torch.Tensor) -> None:
    n_bad = int(torch.isnan(rest_N).sum())
    if n_bad:
        raise SweepError(
            f"the student gave non-finite logits at {n_bad} of {rest_N.numel()} masked positions;"
            " expected finite numbers. Its checkpoint or adapter is damaged, or its dtype too narrow:"
            " check the training log, or set student.dtype: float32"
        )
