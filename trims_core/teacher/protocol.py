"""What the scores stage asks of a teacher, and what a teacher answers.

A teacher of your own is a class given as `scores.teacher: package.module:Class`. It is made as
`Class(config, **config.options)` with the ScoresConfig, in the process of the stage, and must not keep
results between rows: a row's scores may depend on that row only. A class with a method `observe` is shown the
whole corpus first, and its scores may depend on that too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

Beat = Callable[[str], None]
"""Called with a few words at least every few seconds while something takes long."""

ENGINE_ERROR: Final = "engine_error"
"""Reason of a row that the engine did not take; may succeed if tried again."""


@dataclass(frozen=True, slots=True)
class Request:
    """One example to score; an autoregressive teacher gives p(target | prompt, earlier targets) for each."""

    id: str
    prompt_ids: list[int]
    target_ids: list[int]
    """Completion tokens and the end-of-turn token; all of them are scored."""

    @property
    def n_tokens(self) -> int:
        """Tokens the teacher reads."""
        return len(self.prompt_ids) + len(self.target_ids)


@dataclass(frozen=True, slots=True)
class Scored:
    """A teacher's answer to one request, one value per target token."""

    id: str
    nll_nats: Sequence[float]
    """−log p of the target, natural logarithm."""
    entropy_nats: Sequence[float] | None = None
    """Entropy of the whole distribution at that place, if the teacher knows it exactly."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request the teacher could not score; becomes a row of rejects."""

    id: str
    reason: str
    """One or two words with underscores; counted."""
    detail: str = ""


Reply = Scored | Refused


@dataclass(frozen=True, slots=True)
class TeacherInfo:
    """What is worth knowing about a started teacher."""

    engine: str
    """Name and version."""
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON-able: device, threads, …"""


class Teacher(Protocol):
    """A model, usually an autoregressive one, that scores given tokens."""

    def start(self, max_tokens: int, beat: Beat) -> TeacherInfo:
        """Get ready for requests of at most `max_tokens` tokens.

        Raises:
            TeacherError: it cannot start. TeacherUnavailableError: it may, if tried again.
        """
        ...

    def score(self, requests: Sequence[Request], beat: Beat) -> Iterable[Reply]:
        """One reply per request, in any order, as they come.

        Raises:
            TeacherUnavailableError: it died; what was replied before counts.
        """
        ...

    def close(self) -> None:
        """Free everything; also after errors, and when never started."""
        ...


@runtime_checkable
class CorpusObserver(Protocol):
    """A teacher whose scores depend on the whole corpus, besides the row."""

    def observe(self, requests: Sequence[Request]) -> None:
        """See some rows; called before `start` until every row of the corpus was shown once, in its order.

        A resumed run shows the whole corpus again. Rows that cannot be scored (too long) are shown too.
        """
        ...
