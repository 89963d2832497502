"""Which examples every optimizer step sees, on any number of ranks: a pure function of settings and ids.

Training reads one endless stream: epoch 0's permutation, then epoch 1's, and so on. Step s takes the
`batch_size` entries from s·batch_size on, cut into micro-batches that the ranks take in turn. So every
step has a full batch, a batch may span two epochs, every example comes once per epoch, and neither the
number of ranks nor a resume changes what a step or a micro-batch contains.

Grouping by length looks at a window of some batches. Their entries are sorted by length and cut into
micro-batches, and every step takes one micro-batch from each length range, drawn by a keyed hash. So a
micro-batch needs hardly any padding, yet every step still holds short and long sequences and about equally
many tokens, and ranks that run at the same time get neighbouring lengths. (Steps of one length would be
easier, but their gradient depends on the length, and dividing by the step's tokens would then weigh tokens
of short sequences more.) With one micro-batch per step there is only one range: such steps differ in length.

Supervised ends stand behind an answer and are trained on. How many there are is drawn for each pass over
an example and has nothing to do with its batch mates; a sequence's length here counts them in. What pads a
sequence to the longest of its micro-batch beyond them is dead: neither attended nor trained on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trims_core.config import TrainingConfig
from trims_core.errors import ConfigError
from trims_core.keyed import hash_order

Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Entry:
    """One pass over one example: its index in the data, the epoch that keys its draws, its ends behind it."""

    example: int
    epoch: int
    n_ends: int = 0


@dataclass(frozen=True)
class MicroBatch:
    """What one rank puts through the model at once, and what it needs to know of the whole step.

    step: 0-based optimizer step. index: place of this micro-batch in the step, over all ranks.
    pad_to: sequence length.
    """

    step: int
    index: int
    entries: tuple[Entry, ...]
    pad_to: int


@dataclass(frozen=True)
class Padding:
    """How sequences are brought to one length: at most end_tokens supervised ends, then dead columns."""

    end_tokens: int
    multiple_of: int
    max_length: int

    def length(self, longest: int) -> int:
        """`longest` rounded up to the multiple, but never beyond max_length."""
        rounded = -(-longest // self.multiple_of) * self.multiple_of
        return max(longest, min(rounded, self.max_length))


def count_ends(seed: int, epoch: int, example_id: str, at_most: int) -> int:
    """How many supervised ends follow an answer in one pass over it: uniform over 0…at_most.

    A fixed number would give the answer's length away: it would end so many positions before the canvas does.
    """
    digest = hashlib.blake2b(f"ends\0{seed}\0{epoch}\0{example_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % (at_most + 1)


def split_validation(
    ids: Sequence[str], fraction: float, prompts: Sequence[str] | None = None
) -> tuple[Lengths, list[int]]:
    """(training, validation) indices; validation = the share with the smallest id hashes, in that order.

    The choice depends on the ids alone, so all variants and seeds with the same examples are validated on the
    same. A fraction above 0 holds out at least one example, unless there is only one.

    Args:
        prompts: whose answers the examples are; all answers to a prompt are on one side. None: all differ.
    """
    chosen = np.arange(len(ids))
    names = ids if prompts is None else sorted(set(prompts))
    n_held_out = count_held_out(len(names), fraction)
    if n_held_out == 0:
        return chosen, []
    held_out = hash_order(names, "validation")[:n_held_out]
    if prompts is not None:
        kept_back = {names[i] for i in held_out}
        held_out = np.array([i for i in hash_order(ids, "validation") if prompts[i] in kept_back], np.int64)
    return np.delete(chosen, held_out), held_out.tolist()


def count_held_out(n_examples: int, fraction: float) -> int:
    """How many of some examples `split_validation` holds out."""
    if fraction == 0 or n_examples < 2:
        return 0
    return min(max(1, round(fraction * n_examples)), n_examples - 1)


def count_steps(config: TrainingConfig, n_examples: int, passes: int = 1) -> int:
    """Optimizer steps of the whole run: as many as max_forwards allows, max_steps, or what `epochs` need.

    Args:
        passes: forwards through the student that each sequence of a step takes.
    """
    if config.max_forwards is not None:
        return max(1, config.max_forwards // passes)
    return config.max_steps or max(1, math.ceil(config.epochs * n_examples / config.batch_size))


def accumulation_steps(config: TrainingConfig, world_size: int) -> int:
    """Micro-batches per rank and optimizer step. Raises: ConfigError where the batch does not divide."""
    per_pass = config.micro_batch_size * world_size
    if config.batch_size % per_pass:
        raise ConfigError(
            f"train.batch_size {config.batch_size} is not a multiple of micro_batch_size"
            f" {config.micro_batch_size} × {world_size} processes; choose a batch_size that is"
        )
    return config.batch_size // per_pass


class Schedule:
    """The stream of global batches over some examples.

    prompt_lengths and lengths are student tokens after truncation, by example; `chosen` are the indices
    trained on.
    """

    def __init__(
        self,
        ids: Sequence[str],
        prompt_lengths: Lengths,
        lengths: Lengths,
        ends_in_turn: npt.NDArray[np.bool_],
        chosen: Sequence[int] | Lengths,
        *,
        seed: int,
        batch_size: int,
        micro_batch_size: int,
        padding: Padding,
        n_steps: int | None = None,
        window: int = 1,
        longest: Lengths | None = None,
    ) -> None:
        self._ids = ids
        self._prompt_lengths = prompt_lengths
        self._lengths = lengths
        self._ends_in_turn = ends_in_turn
        self._chosen = np.asarray(chosen, np.int64)
        self._seed = seed
        self._batch_size = batch_size
        self._micro_batch_size = micro_batch_size
        self._padding = padding
        self._n_steps = n_steps
        self._window = window
        self._longest = lengths if longest is None else longest
        self._permutation = lru_cache(maxsize=2)(self._shuffled)
        self._regrouped = lru_cache(maxsize=2)(self._by_length)

    def step(self, step: int) -> list[MicroBatch]:
        """All micro-batches of one optimizer step, in order."""
        if self._window > 1:
            window, place = divmod(step, self._window)
            return self.cut(self._regrouped(window)[place], step)
        return self.cut(self._stream(step, step + 1), step)

    def cut(self, entries: Sequence[Entry], step: int) -> list[MicroBatch]:
        """One global batch as micro-batches; the last may be smaller."""
        parts = [
            entries[i : i + self._micro_batch_size] for i in range(0, len(entries), self._micro_batch_size)
        ]
        return [
            MicroBatch(
                step=step,
                index=index,
                entries=tuple(part),
                pad_to=self._padding.length(max(map(self._length, part))),
            )
            for index, part in enumerate(parts)
        ]

    def _by_length(self, window: int) -> list[list[Entry]]:
        """The entries of each step of a window, in the order in which `cut` takes micro-batches."""
        first = window * self._window
        end = first + self._window
        if self._n_steps is not None:
            # the last window ends with the run: what it regroups is trained on, all of it
            end = min(end, max(self._n_steps, first + 1))
        entries = sorted(
            self._stream(first, end),
            key=lambda e: (self._length(e), self._ids[e.example], e.epoch),
        )
        n_steps = end - first
        size = self._micro_batch_size
        groups = [entries[i : i + size] for i in range(0, len(entries), size)]
        steps: list[list[Entry]] = [[] for _ in range(n_steps)]
        for start in range(0, len(groups), n_steps):
            ranged = groups[start : start + n_steps]
            names = [str(i) for i in range(len(ranged))]
            order = hash_order(names, f"length\0{self._seed}\0{window}\0{start}")
            for step, i in enumerate(order):
                steps[step].extend(ranged[int(i)])
        return steps

    def _stream(self, first: int, end: int) -> list[Entry]:
        """The entries of the steps first…end−1 in the order of the stream."""
        return [self._entry(i) for i in range(first * self._batch_size, end * self._batch_size)]

    def _entry(self, position: int) -> Entry:
        epoch, place = divmod(position, len(self._chosen))
        return self.entry(int(self._permutation(epoch)[place]), epoch)

    def entry(self, example: int, epoch: int) -> Entry:
        """One pass over an example, with the number of its ends: drawn, and none behind an open end."""
        if not self._ends_in_turn[example]:
            return Entry(example, epoch)
        drawn = count_ends(self._seed, epoch, self._ids[example], self._padding.end_tokens)
        return Entry(example, epoch, min(drawn, self._padding.max_length - int(self._longest[example])))

    def _shuffled(self, epoch: int) -> Lengths:
        names = (self._ids[i] for i in self._chosen)
        return self._chosen[hash_order(names, f"shuffle\0{self._seed}\0{epoch}")]

    def _length(self, entry: Entry) -> int:
        return int(self._lengths[entry.example]) + entry.n_ends
