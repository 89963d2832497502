"""Teacher `unigram`: a control for ablations; −log of a token's share of the corpus's completion tokens.

Every completion token of every row counts, end of turn included, and so do the tokens of rows that are
rejected afterwards (too long, unknown tokens): they are part of the corpus, and `max_rejected_fraction` must
not change values. The counts come from the whole corpus before the first shard is scored, on a resume too,
so neither the order of shards nor a crash shows. No model is loaded.

The entropy of this distribution is the same at every token and orders nothing: none is given, and
`buckets.metric: entropy` is refused where it is read.

Source: maximum-likelihood unigram model; counted by hand in tests/teacher/test_unigram_teacher.py
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from trims_core.errors import TeacherError
from trims_core.teacher.protocol import Beat, Request, Scored, TeacherInfo


class UnigramTeacher:
    """Counts of completion tokens; observes the corpus, then scores."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def observe(self, requests: Sequence[Request]) -> None:
        """Count the completion tokens of some rows of the corpus."""
        for request in requests:
            self._counts.update(request.target_ids)

    def start(self, _max_tokens: int, _beat: Beat) -> TeacherInfo:
        """Nothing to load; says how much was counted."""
        return TeacherInfo("unigram", {"tokens": self._counts.total(), "distinct": len(self._counts)})

    def score(self, requests: Sequence[Request], _beat: Beat) -> Iterator[Scored]:
        """Replies in the order of the rows. Raises: TeacherError for a row that was not observed."""
        total = self._counts.total()
        nats = {token: math.log(total / count) for token, count in self._counts.items()}
        for request in requests:
            unknown = [token for token in request.target_ids if token not in nats]
            if unknown:
                raise TeacherError(
                    f"teacher unigram: token {unknown[0]} of row {request.id!r} was not counted; expected"
                    " observe() with every row of the corpus before score()"
                )
            yield Scored(request.id, [nats[token] for token in request.target_ids])

    def close(self) -> None:
        """Nothing is held."""
