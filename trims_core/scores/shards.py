"""One shard of examples → one table of scores and one of rejects, joined by id.

Every id of the shard ends up once in scores, in the shard's order, or once in rejects with a reason. What is
wrong with a row before the teacher sees it (too long, unknown tokens) never reaches the teacher.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from trims_core.errors import TeacherError
from trims_core.rendering import Renderer
from trims_core.teacher.cleaning import UnusableScoresError, clean_nats
from trims_core.teacher.protocol import Refused, Reply, Request, Scored

TOO_LONG: Final = "too_long"
OUT_OF_VOCABULARY: Final = "out_of_vocabulary"
NO_REPLY: Final = "no_reply"


@dataclass(frozen=True, slots=True)
class Row:
    """One example in the teacher's tokens."""

    request: Request
    byte_end: list[int]
    """End of each target in the completion's UTF-8 bytes; the end of turn repeats the last one."""


@dataclass
class ShardScores:
    """What came of one shard."""

    scores: dict[str, list[Any]]
    """Columns of schema.SCORES."""
    rejects: dict[str, list[str]]
    """Columns of schema.REJECTS."""
    n_tokens: int = 0
    """Scored tokens."""
    reasons: dict[str, list[str]] = field(default_factory=dict)
    """Reason → ids."""


def render_rows(renderer: Renderer, shard: Mapping[str, Sequence[Any]]) -> list[Row]:
    """The rows of a corpus shard (columns as lists) in the teacher's tokens.

    Raises:
        AlignmentError, CorpusError: the tokenizer or its template does not take an example; names it.
    """
    ids = shard["id"]
    prompts = renderer.prompts(shard["messages"], ids)
    completions = renderer.completions(shard["completion"], ids)
    end = renderer.end_of_turn_id
    return [
        Row(Request(row_id, prompt, [*encoded.ids, end]), [*encoded.byte_end, encoded.byte_end[-1]])
        for row_id, prompt, encoded in zip(ids, prompts, completions, strict=True)
    ]


def objection(request: Request, context: int | None, vocab_size: int | None) -> Refused | None:
    """Why the teacher cannot read a row at all, or None."""
    if context is not None and request.n_tokens > context:
        return Refused(request.id, TOO_LONG, f"{request.n_tokens} tokens; the teacher reads {context}")
    if not request.prompt_ids:
        return Refused(request.id, "empty_prompt", "the chat template gives no prompt tokens")
    if vocab_size is not None:
        highest = max(*request.prompt_ids, *request.target_ids)
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


def tabulate(rows: Sequence[Row], replies: Mapping[str, Reply]) -> ShardScores:
    """Scores and rejects of a shard, in the order of its rows. `replies` has one per id."""
    done = ShardScores(
        scores={name: [] for name in ("id", "token_ids", "byte_end", "nll_nats", "entropy_nats")},
        rejects={name: [] for name in ("id", "reason", "detail")},
    )
    for row in rows:
        reply = replies[row.request.id]
        try:
            if isinstance(reply, Refused):
                raise UnusableScoresError(reply.reason, reply.detail)
            _keep(done, row, reply)
        except UnusableScoresError as problem:
            done.rejects["id"].append(row.request.id)
            done.rejects["reason"].append(problem.reason)
            done.rejects["detail"].append(problem.detail)
            done.reasons.setdefault(problem.reason, []).append(row.request.id)
    return done


def _keep(done: ShardScores, row: Row, reply: Scored) -> None:
    n_targets = len(row.request.target_ids)
    nll = clean_nats(reply.nll_nats, n_targets, "nll")
    entropy = reply.entropy_nats
    clean_entropy = None if entropy is None else clean_nats(entropy, n_targets, "entropy")
    done.scores["id"].append(row.request.id)
    done.scores["token_ids"].append(row.request.target_ids)
    done.scores["byte_end"].append(row.byte_end)
    done.scores["nll_nats"].append(nll)
    done.scores["entropy_nats"].append(clean_entropy)
    done.n_tokens += n_targets
