"""A teacher whose model runs in this process: one thread of its own, batches by length, sliced softmax.

Shapes: B rows, N scored positions of a batch, C a slice of them, D hidden size, V vocabulary
Source: log-softmax and entropy by definition; compared with float64 in tests/teacher.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

import torch

from trims_core.config import ScoresConfig
from trims_core.errors import TeacherError
from trims_core.teacher.protocol import Beat, Request, Scored, TeacherInfo

_BEAT_S: Final = 2.0
_LOGITS_PER_SLICE: Final = 1 << 25
"""Numbers of float32 logits alive at a time (128 MiB)."""
_TOKENS_PER_BATCH: Final = 8192

T = TypeVar("T")


class InProcessTeacher(ABC):
    """A checkpoint on the first CUDA device, or else the CPU."""

    expected: ClassVar[str]
    """The kind of checkpoint, for messages."""

    def __init__(self, config: ScoresConfig) -> None:
        self._config = config
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="teacher")
        self._model: Any = None

    @abstractmethod
    def _load(self) -> Any:
        """The model, in evaluation mode on `self._device`."""

    @abstractmethod
    def _score_batch(self, batch: Sequence[Request]) -> list[Scored]:
        """The replies of some rows of similar length."""

    def start(self, _max_tokens: int, beat: Beat) -> TeacherInfo:
        """Load the checkpoint. Raises: TeacherError where it cannot be loaded."""
        try:
            self._model = self._run(self._load, beat, "loading the teacher")
        except (OSError, ValueError, RuntimeError) as error:
            raise TeacherError(
                f"scores.model: {self._config.model} cannot be loaded ({error}); expected {self.expected}"
            ) from error
        import transformers

        return TeacherInfo(f"transformers {transformers.__version__}", {"device": str(self._device)})

    def score(self, requests: Sequence[Request], beat: Beat) -> Iterator[Scored]:
        """Replies batch by batch, longest rows first (the largest batch fails first, if any)."""
        ordered = sorted(requests, key=lambda request: (-request.n_tokens, request.id))
        for batch in _batches(ordered, self._config.batch_size, self._config.max_num_batched_tokens):
            yield from self._run(partial(self._score_batch, batch), beat, "scoring")

    def close(self) -> None:
        """Drop the model."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._model = None

    def _run(self, work: Callable[[], T], beat: Beat, note: str) -> T:
        """The result of `work`, computed in the teacher's own thread while this one keeps telling."""
        future: Future[T] = self._thread.submit(work)
        while True:
            try:
                return future.result(timeout=_BEAT_S)
            except NotYet:
                if future.done():
                    raise
                beat(note)
            except torch.OutOfMemoryError as error:
                raise TeacherError(
                    f"the teacher ran out of GPU memory ({error}); lower scores.batch_size"
                    f" (now {self._config.batch_size}) or scores.max_num_batched_tokens"
                ) from error


def target_places(batch: Sequence[Request]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row, position in the row and token of every target of a batch, int64 [N] each, row by row."""
    row_N = torch.cat([torch.full((len(r.target_ids),), row) for row, r in enumerate(batch)])
    place_N = torch.cat([torch.arange(len(r.prompt_ids), r.n_tokens) for r in batch])
    target_N = torch.cat([torch.tensor(r.target_ids) for r in batch])
    return row_N, place_N, target_N


def nats_of(
    states_ND: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    target_N: torch.Tensor,
    vocab_size: int,
    excluded_id: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 [N] on the CPU: −log p of the targets, and the entropy of p, a slice of rows at a time.

    Args:
        head: logits of some states.
        excluded_id: a token left out of the softmax; as a target its value is +inf.
    """
    nll, entropy = [], []
    step = max(1, _LOGITS_PER_SLICE // vocab_size)
    for states_CD, target_C in zip(states_ND.split(step), target_N.split(step), strict=True):
        logits_CV = head(states_CD).float()
        if excluded_id is not None:
            logits_CV[:, excluded_id] = -torch.inf
        logp_CV = torch.log_softmax(logits_CV, dim=-1)
        nll.append(-logp_CV.gather(1, target_C[:, None])[:, 0].cpu())
        entropy.append(torch.special.entr(logp_CV.exp()).sum(-1).cpu())
    return torch.cat(nll), torch.cat(entropy)


def replies(batch: Sequence[Request], nll_N: torch.Tensor, entropy_N: torch.Tensor) -> list[Scored]:
    """The values of a batch's targets, row by row, as one reply per row."""
    counts = [len(request.target_ids) for request in batch]
    pieces = zip(batch, nll_N.split(counts), entropy_N.split(counts), strict=True)
    return [Scored(request.id, nll.tolist(), entropy.tolist()) for request, nll, entropy in pieces]


def _batches(ordered: Sequence[Request], max_rows: int, max_tokens: int | None) -> Iterator[list[Request]]:
    """Rows of falling length in batches bounded in rows and in padded tokens (at least one row each)."""
    limit = max_tokens or _TOKENS_PER_BATCH
    batch: list[Request] = []
    for request in ordered:
        width = batch[0].n_tokens if batch else request.n_tokens
        if batch and (len(batch) == max_rows or width * (len(batch) + 1) > limit):
            yield batch
            batch = []
        batch.append(request)
    if batch:
        yield batch
