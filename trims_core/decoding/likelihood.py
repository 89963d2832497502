"""How likely a student finds a given continuation: the Monte Carlo estimate of a masked diffusion model.

A sample hides l of the L tokens of the continuation (l uniform in 1 … L, then a uniform set of l positions)
and adds up the log-probabilities of the hidden ones, times L / l. The prompt is never hidden. The mean over
samples is an unbiased estimate of the mean, over all orders of revealing the continuation one token at a
time, of its log-probability in that order. By Jensen's inequality that mean is at most the logarithm of the
probability averaged over orders: the estimate is of a lower bound, exact where L = 1.

Samples are not drawn independently: their l are spread evenly over 1 … L from one random start, and each
still has a uniform l. Equal sets of positions are fed once, so short continuations cost few forwards.

Source: LLaDA (2502.09992), equation for conditional likelihoods, and its program `get_log_likelihood.py`,
with which `as_published` agrees: there the spread is inside a batch and its halves are rounded to even, so
that l is not quite uniform where L / batch_size has the fraction one half.

Covered: LLaDA and Dream (shifted logits); classifier-free guidance. Not covered: block-causal students,
whose blocks are predicted behind finished ones: refused.

Shapes: S samples, L tokens of the continuation, B rows of a forward, C columns, N hidden positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import torch

from trims_core.decoding.forwards import block_causal_length
from trims_core.errors import ConfigError, SweepError
from trims_core.fingerprint import sha256_json
from trims_core.keyed import draw_seed
from trims_core.students import Student

_POSITIONS: Final = 1024
"""Hidden positions to which the head is applied at once: half a gigabyte at 126,464 rows."""


@dataclass(frozen=True)
class MonteCarlo:
    """How a likelihood is estimated; the defaults are LLaDA's but for the batch."""

    samples: int = 128
    batch_size: int = 16
    """Rows per forward; changes speed only, unless `as_published`."""
    seed: int = 0
    """Of l and the positions; what is drawn also depends on the tokens, and on nothing else."""
    as_published: bool = False
    """l spread inside each batch, halves rounded to even."""
    guidance: float = 0.0
    """Classifier-free guidance scale: logits u + (s + 1)(c − u), u those behind a hidden prompt."""


@dataclass(frozen=True)
class Likelihood:
    """The estimate for one continuation, in nats."""

    nats: float
    error_nats: float | None
    """Standard error as if samples were independent; None for one sample of several possible ones."""
    n_rows: int
    """Different canvases that were fed."""


@dataclass(frozen=True)
class _Row:
    """A canvas to be fed."""

    pair: int
    hidden_L: torch.Tensor
    times: int
    """How many samples it stands for."""


def log_likelihoods(
    student: Student,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    how: MonteCarlo,
    on_rows: Callable[[int], None] = lambda _n: None,
) -> list[Likelihood]:
    """The estimate for every (prompt, continuation), in their order; token ids, continuations not empty.

    Args:
        on_rows: told after every forward how many pairs are begun.

    Raises:
        ConfigError: a block-causal student.
        SweepError: a log-probability is not finite.
    """
    if block_causal_length(student.family) is not None:
        raise ConfigError(
            "loglikelihood with a block-causal student: not defined here, because its blocks are predicted"
            " behind finished ones; expected a student that attends in both directions. Leave these tasks out"
        )
    order = sorted(range(len(pairs)), key=lambda place: -sum(map(len, pairs[place])))
    rows = (row for place in order for row in _rows(place, pairs[place], how))
    found: list[list[tuple[float, int]]] = [[] for _ in pairs]
    begun: set[int] = set()
    with torch.inference_mode():
        while batch := list(islice(rows, how.batch_size)):
            for row, nats in zip(batch, _feed(student, pairs, batch, how.guidance), strict=True):
                found[row.pair].append((nats, row.times))
            begun.update(row.pair for row in batch)
            on_rows(len(begun))
    return [_estimate(values, len(pair[1])) for values, pair in zip(found, pairs, strict=True)]


def hidden_counts(length: int, how: MonteCarlo, generator: torch.Generator) -> list[int]:
    """l of every sample, each in 1 … length."""
    size = min(how.batch_size, how.samples) if how.as_published else how.samples
    counts: list[int] = []
    while len(counts) < how.samples:
        start = 1 + int(torch.randint(length, (), generator=generator))
        counts += spread(start, length, size, as_published=how.as_published)
    return counts[: how.samples]


def spread(start: int, length: int, size: int, *, as_published: bool = False) -> list[int]:
    """So many numbers in 1 … length at equal distances from a first one on, the last followed by 1."""
    if as_published:  # float32, halves to even
        steps = torch.linspace(start, start + (size - 1) * (length / size), size).round().tolist()
    else:
        steps = [start + place * length // size for place in range(size)]
    return [(int(step) - 1) % length + 1 for step in steps]


def _rows(place: int, pair: tuple[Sequence[int], Sequence[int]], how: MonteCarlo) -> Iterator[_Row]:
    """The canvases of a pair, each once."""
    prompt, continuation = (list(part) for part in pair)
    length = len(continuation)
    name = sha256_json([prompt, continuation])
    generator = torch.Generator().manual_seed(draw_seed(how.seed, 0, name, "likelihood"))
    counts_S = torch.tensor(hidden_counts(length, how, generator))
    rank_SL = torch.rand(how.samples, length, generator=generator).argsort(dim=1).argsort(dim=1)
    sets, times = torch.unique(rank_SL < counts_S[:, None], dim=0, return_counts=True)
    return (_Row(place, *one) for one in zip(sets, times.tolist(), strict=True))


def _feed(
    student: Student,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    rows: Sequence[_Row],
    guidance: float,
) -> list[float]:
    """Of each row (L / l) times the log-probabilities of its hidden tokens, added up."""
    device = next(student.model.parameters()).device
    width = max(sum(map(len, pairs[row.pair])) for row in rows)
    shape = (len(rows), width)
    ids_BC = torch.full(shape, student.family.mask_id)
    seen_BC, asked_BC, hidden_BC = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
    for number, row in enumerate(rows):
        prompt, continuation = pairs[row.pair]
        n_prompt, end = len(prompt), len(prompt) + len(continuation)
        ids_BC[number, :end] = torch.tensor([*prompt, *continuation])
        seen_BC[number, :end] = True
        asked_BC[number, :n_prompt] = True
        hidden_BC[number, n_prompt:end] = row.hidden_L
    ids_BC, seen_BC, asked_BC, hidden_BC = (x.to(device) for x in (ids_BC, seen_BC, asked_BC, hidden_BC))
    mask = None if bool(seen_BC.all()) else seen_BC
    fed_BC = ids_BC.masked_fill(hidden_BC, student.family.mask_id)
    states_ND = student.hidden(fed_BC, attention_mask=mask)[hidden_BC]
    free_ND = states_ND
    if guidance:
        fed_BC = fed_BC.masked_fill(asked_BC, student.family.mask_id)
        free_ND = student.hidden(fed_BC, attention_mask=mask)[hidden_BC]
    target_N = ids_BC[hidden_BC]
    parts = [torch.zeros(0, device=device)]
    for start in range(0, len(target_N), _POSITIONS):
        chunk = slice(start, start + _POSITIONS)
        logits_NV = student.head(states_ND[chunk]).float()
        if guidance:
            free_NV = student.head(free_ND[chunk]).float()
            logits_NV = free_NV + (guidance + 1) * (logits_NV - free_NV)
        parts.append(logits_NV.log_softmax(dim=-1).gather(1, target_N[chunk, None])[:, 0])
    nats_B = torch.zeros(len(rows), dtype=torch.float64, device=device)
    nats_B.index_add_(0, hidden_BC.nonzero()[:, 0], torch.cat(parts).double())
    return [
        total * len(row.hidden_L) / int(row.hidden_L.sum())
        for total, row in zip(nats_B.tolist(), rows, strict=True)
    ]


def _estimate(values: Sequence[tuple[float, int]], length: int) -> Likelihood:
    n = sum(times for _, times in values)
    mean = sum(nats * times for nats, times in values) / n
    if not math.isfinite(mean):
        raise SweepError(
            "loglikelihood: the model's log-probabilities are not finite; expected finite numbers. Check the"
            " checkpoint and its dtype, or lower guidance"
        )
    spread = sum(times * (nats - mean) ** 2 for nats, times in values)
    error = 0.0 if length == 1 else None if n == 1 else math.sqrt(spread / (n - 1) / n)
    return Likelihood(mean, error, len(values))
