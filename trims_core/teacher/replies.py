"""A teacher's replies matched with what it was asked, and turned into numbers or into reasons why not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from trims_core.errors import TeacherError
from trims_core.teacher.cleaning import UnusableScoresError, clean_nats
from trims_core.teacher.limits import MORE_CONTEXT
from trims_core.teacher.protocol import ENGINE_ERROR, Refused, Reply, Request

Nats = npt.NDArray[np.float32]

TOO_LONG: Final = "too_long"
OUT_OF_VOCABULARY: Final = "out_of_vocabulary"
NO_REPLY: Final = "no_reply"
TRANSIENT: Final = (ENGINE_ERROR, NO_REPLY)
"""Reasons of rows that an engine merely failed to answer: they may succeed if asked again."""


def objection(request: Request, context: int | None, vocab_size: int | None) -> Refused | None:
    """Why the teacher cannot read a row at all, or None."""
    if context is not None and request.n_tokens > context:
        detail = f"{request.n_tokens} tokens; the teacher reads {context}. {MORE_CONTEXT}"
        return Refused(request.id, TOO_LONG, detail)
    if not request.prompt_ids:
        return Refused(request.id, "empty_prompt", "the chat template gives no prompt tokens")
    if vocab_size is not None:
        highest = max(max(request.prompt_ids), max(request.target_ids))
        if highest >= vocab_size:
            return Refused(request.id, OUT_OF_VOCABULARY, f"token {highest}; the teacher has {vocab_size}")
    return None


def match_replies(requests: Sequence[Request], replies: Iterable[Reply]) -> Iterator[Reply]:
    """The replies as they come, checked to be about these requests; missing ones as refusals at the end.

    Raises:
        TeacherError: a reply about a row that was not asked, or a second one about the same row.
    """
    waiting = {request.id for request in requests}
    for reply in replies:
        if reply.id not in waiting:
            raise TeacherError(
                f"the teacher replied about {reply.id!r}, which was not asked or was answered already;"
                " expected one reply per request. Correct the teacher class"
            )
        waiting.remove(reply.id)
        yield reply
    for missing in sorted(waiting):
        yield Refused(missing, NO_REPLY, "the teacher gave no answer for this row")


def values_of(reply: Reply, n_targets: int) -> tuple[Nats, Nats | None]:
    """Values and entropies of a row. Raises: UnusableScoresError."""
    if isinstance(reply, Refused):
        raise UnusableScoresError(reply.reason, reply.detail)
    nll_T = clean_nats(reply.nll_nats, n_targets, "nll")
    entropy = reply.entropy_nats
    return nll_T, None if entropy is None else clean_nats(entropy, n_targets, "entropy")
