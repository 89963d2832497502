"""Teacher `transformers`: a plain forward in this process; knows the exact entropy too.

Rows are sorted by length and padded at the right, where a causal model never looks, so no mask is needed.
The head runs over completion positions only, a slice of the vocabulary matrix product at a time.

Shapes: B rows, L padded tokens, D hidden size, N scored positions of a batch, C a slice of them, V vocabulary
Source: log-softmax and entropy by definition; the teachers are compared in tests/teacher/test_agreement.py
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from functools import partial
from typing import Any, Final, TypeVar

import torch

from trims_core.config import ScoresConfig
from trims_core.errors import TeacherError
from trims_core.teacher.protocol import Beat, Request, Scored, TeacherInfo

logger = logging.getLogger(__name__)

_BEAT_S: Final = 2.0
_LOGITS_PER_SLICE: Final = 1 << 25
"""Numbers of float32 logits alive at a time (128 MiB)."""
_TOKENS_PER_BATCH: Final = 8192

T = TypeVar("T")


class TransformersTeacher:
    """An AutoModelForCausalLM on the first CUDA device, or else the CPU."""

    def __init__(self, config: ScoresConfig) -> None:
        self._config = config
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="teacher")
        self._model: Any = None
        self._sliced_head = False

    def start(self, _max_tokens: int, beat: Beat) -> TeacherInfo:
        """Load the checkpoint. Raises: TeacherError where it cannot be loaded."""
        try:
            self._model = self._run(self._load, beat, "loading the teacher")
        except (OSError, ValueError, RuntimeError) as error:
            raise TeacherError(
                f"scores.model: {self._config.model} cannot be loaded ({error});"
                " expected a causal language model"
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

    def _load(self) -> Any:
        from transformers import AutoModelForCausalLM

        config = self._config
        model = AutoModelForCausalLM.from_pretrained(
            config.model, revision=config.revision, dtype=getattr(torch, config.dtype)
        )
        model = model.to(self._device).eval()
        self._sliced_head = _head_is_plain(model)
        return model

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

    @torch.inference_mode()
    def _score_batch(self, batch: Sequence[Request]) -> list[Scored]:
        # 1. ids, padded at the right with any id
        longest = max(request.n_tokens for request in batch)
        ids_BL = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, request in enumerate(batch):
            ids_BL[row, : request.n_tokens] = torch.tensor(request.prompt_ids + request.target_ids)
        # 2. the token at place i is predicted from place i − 1
        row_N = torch.cat([torch.full((len(r.target_ids),), row) for row, r in enumerate(batch)])
        place_N = torch.cat([torch.arange(len(r.prompt_ids), r.n_tokens) - 1 for r in batch])
        target_N = ids_BL[row_N, place_N + 1]
        # 3. nll and entropy of these places only
        nll_N, entropy_N = self._nats(ids_BL, row_N, place_N, target_N)
        # 4. back to rows
        counts = [len(request.target_ids) for request in batch]
        pieces = zip(batch, nll_N.split(counts), entropy_N.split(counts), strict=True)
        return [Scored(request.id, nll.tolist(), entropy.tolist()) for request, nll, entropy in pieces]

    def _nats(
        self, ids_BL: torch.Tensor, row_N: torch.Tensor, place_N: torch.Tensor, target_N: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 on the CPU: −log p of the targets, and the entropy of p, at the given places."""
        device = self._device
        row_N, place_N, target_N = row_N.to(device), place_N.to(device), target_N.to(device)
        if self._sliced_head:
            hidden_BLD = self._model.base_model(input_ids=ids_BL.to(device), use_cache=False)[0]
            states_ND, head = hidden_BLD[row_N, place_N], self._model.get_output_embeddings()
        else:
            logits_BLV = self._model(input_ids=ids_BL.to(device), use_cache=False).logits
            states_ND, head = logits_BLV[row_N, place_N], torch.nn.Identity()
        nll, entropy = [], []
        step = max(1, _LOGITS_PER_SLICE // int(self._model.get_output_embeddings().weight.shape[0]))
        for states_CD, target_C in zip(states_ND.split(step), target_N.split(step), strict=True):
            logp_CV = torch.log_softmax(head(states_CD).float(), dim=-1)
            nll.append(-logp_CV.gather(1, target_C[:, None])[:, 0].cpu())
            entropy.append(torch.special.entr(logp_CV.exp()).sum(-1).cpu())
        return torch.cat(nll), torch.cat(entropy)


@torch.inference_mode()
def _head_is_plain(model: Any) -> bool:
    """Whether logits are the output embedding of the trunk's last state (no caps, no scales)."""
    head = model.get_output_embeddings()
    if head is None or model.base_model is model:
        return False
    probe_BL = torch.arange(4, device=model.device)[None] % head.weight.shape[0]
    states_BLD = model.base_model(input_ids=probe_BL, use_cache=False)[0]
    if states_BLD.shape[-1] != head.weight.shape[-1]:
        return False
    wanted_BLV = model(input_ids=probe_BL, use_cache=False).logits
    return bool(
        torch.allclose(head(states_BLD).float(), wanted_BLV.float(), rtol=1e-5, atol=1e-5, equal_nan=True)
    )


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
