"""The requests of lm-evaluation-harness: which are decoded alike, by what names, and what came of them.

A request is an Instance of the harness; of it are read task_name, doc_id and args.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trims_core.decoding import DecodeSettings
from trims_core.decoding.likelihood import Likelihood
from trims_core.decoding.runner import Answers
from trims_core.errors import ConfigError

logger = logging.getLogger("lm_eval.trims")
"""Below the harness's, which alone it sets up."""

Scored = tuple[tuple[str, str], list[int], list[int]]
"""(context, continuation) as texts, and both as tokens."""


@dataclass(frozen=True)
class Job:
    """Requests of one task that are decoded alike."""

    task: str
    wished_length: int | None
    """The task's max_gen_toks."""
    settings: DecodeSettings
    places: Sequence[int]
    prompts: Sequence[Sequence[int]]


@dataclass
class Tally:
    """What was evaluated so far, for the results."""

    generated: list[dict[str, Any]] = field(default_factory=list)
    estimates: list[Likelihood] = field(default_factory=list)

    def count(self, job: Job, found: Sequence[Answers]) -> None:
        """Adds the answers to a job, and says in the log how many tokens a forward gave."""
        decoded = [one for answers in found for one in answers.decoded]
        tokens, forwards = sum(one.n_tokens for one in decoded), sum(one.n_forwards for one in decoded)
        seconds = sum(answers.seconds for answers in found)
        unfinished = sum(not one.finished for one in decoded)
        self.generated.append(
            {
                "task": job.task,
                "answers": len(decoded),
                "tokens": tokens,
                "forwards": forwards,
                "tokens_per_forward": tokens / forwards,
                "tokens_per_second": tokens / seconds,
                "seconds": seconds,
                "unfinished": unfinished,
                "rule": repr(job.settings.rule),
                "cache": job.settings.cache.name,
                "gen_length": job.settings.gen_length,
                "block_length": job.settings.block_length,
                "max_gen_toks": job.wished_length,
                "temperature": job.settings.sampling.temperature,
                "stop": list(job.settings.stop_strings),
                "batch_size": job.settings.batch_size,
            }
        )
        logger.info(
            "task %s: %d answers, %d tokens in %d forwards, %.2f tokens per forward, %.1f tokens per second,"
            " %d without an end; %r, cache %s, canvas of %d",
            *(job.task, len(decoded), tokens, forwards, tokens / forwards, tokens / seconds, unfinished),
            *(job.settings.rule, job.settings.cache.name, job.settings.gen_length),
        )

    def add(self, estimates: Sequence[Likelihood]) -> None:
        """Adds estimated continuations."""
        self.estimates += estimates

    def told(self) -> dict[str, Any]:
        """What the results say: a line per task and way of decoding, and how sure the estimates are."""
        found: dict[str, Any] = {"generate_until": self.generated}
        if self.estimates:
            errors = [one.error_nats for one in self.estimates if one.error_nats is not None]
            found["loglikelihood"] = {
                "continuations": len(self.estimates),
                "canvases": sum(one.n_rows for one in self.estimates),
                "mean_error_nats": sum(errors) / len(errors) if errors else None,
                "max_error_nats": max(errors, default=None),
            }
        return found


def name_of(request: Any, place: int) -> str:
    """A request for messages: `task demo, document 3`."""
    return f"task {request.task_name}, document {_document(request, place)}"


def noise_names(requests: Sequence[Any]) -> list[str]:
    """What each answer's noise is drawn by: its document's number, as in a sweep, and which repeat it is."""
    asked: Counter[tuple[str, str]] = Counter()
    names = []
    for place, request in enumerate(requests):
        key = (str(request.task_name), _document(request, place))
        names.append(f"{key[1]}/{asked[key]}" if asked[key] else key[1])
        asked[key] += 1
    return names


def alike(requests: Sequence[Any]) -> list[list[int]]:
    """Places of requests of one task with one set of wishes."""
    groups: dict[tuple[str, str], list[int]] = {}
    for place, request in enumerate(requests):
        wishes = json.dumps(request.args[1], sort_keys=True, default=repr)
        groups.setdefault((str(request.task_name), wishes), []).append(place)
    return list(groups.values())


def check_pairs(requests: Sequence[Scored], context_length: int) -> None:
    """Raises ConfigError for a continuation without tokens, or one that does not fit behind its context."""
    for place, ((_, text), context, continuation) in enumerate(requests):
        if not continuation:
            raise ConfigError(
                f"loglikelihood, request {place + 1}: the continuation {text!r:.60} has no tokens of its own"
                " behind its context; expected at least one. Begin it with a space or a new line"
            )
        if len(context) + len(continuation) > context_length:
            raise ConfigError(
                f"loglikelihood, request {place + 1}: {len(context)} tokens of context and"
                f" {len(continuation)} of the continuation {text!r:.60}; the student's context has"
                f" {context_length}. Take fewer shots (--num_fewshot)"
            )


def _document(request: Any, place: int) -> str:
    return str(place if request.doc_id is None else request.doc_id)
